"""Services a customer can book."""
