"""A believable pet-care shop to look at and to buy from."""
