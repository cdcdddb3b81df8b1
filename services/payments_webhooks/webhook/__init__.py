"""What Stripe tells: stored first, handled by a job."""
