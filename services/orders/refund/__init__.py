"""Money of an order that goes back."""
