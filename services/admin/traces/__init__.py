"""Spans of all services: received over OTLP, kept a week, read as traces."""
