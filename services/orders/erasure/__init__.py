"""Forgetting who a customer was."""
