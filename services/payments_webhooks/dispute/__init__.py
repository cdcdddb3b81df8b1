"""Charges that cardholders contest at their bank."""
