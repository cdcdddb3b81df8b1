"""Money, and what Stripe tells about it. The only service that talks to Stripe."""
