"""Products and categories, as the public and the cart see them."""
