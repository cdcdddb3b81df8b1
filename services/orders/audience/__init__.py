"""Telling notifications what became of a purchase, so that campaigns can be addressed by it."""
