"""What staff do about customers' accounts."""
