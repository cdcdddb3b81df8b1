"""Telling notifications who bought what, so that campaigns can be addressed by it."""
