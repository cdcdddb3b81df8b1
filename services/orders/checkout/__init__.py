"""From cart to order: hold the stock, prepare the payment, give the same answer however often it is asked."""
