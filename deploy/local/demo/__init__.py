"""The demonstration: a purchase the hard way, and each promise with what was observed."""
