"""Carts, checkouts and orders: what was ordered and whether it is paid."""
