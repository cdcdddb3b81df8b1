"""Who a customer of ours is at Stripe, where their cards are kept."""
