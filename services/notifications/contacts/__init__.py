"""The copy of customers' addresses and consent that campaigns are addressed from."""
