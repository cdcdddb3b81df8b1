"""Accounts of customers and staff, and telling the other services about customers."""
