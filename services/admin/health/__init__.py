"""Which services answer."""
