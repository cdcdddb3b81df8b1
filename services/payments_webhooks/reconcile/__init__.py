"""Stripe's books against ours."""
