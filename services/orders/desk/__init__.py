"""The desk of staff: what they see of orders, coupons and appointments, and do to them."""
