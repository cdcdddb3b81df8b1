"""The payment intent of an order."""
