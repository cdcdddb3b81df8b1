"""What a customer has bought: orders, spending, buying it again."""
