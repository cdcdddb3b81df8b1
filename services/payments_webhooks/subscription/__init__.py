"""What customers pay for again and again: Stripe keeps the calendar, we follow it."""
