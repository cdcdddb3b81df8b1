"""What the destination's tax adds to an order."""
