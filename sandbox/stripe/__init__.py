"""A stand-in for Stripe: its API, its test cards, its webhooks, and its bad days on order."""
