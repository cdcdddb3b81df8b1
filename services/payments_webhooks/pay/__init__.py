"""How a customer pays an order of theirs."""
