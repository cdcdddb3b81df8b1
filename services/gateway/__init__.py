"""The public entrance: an Envoy configuration and what makes it whole."""
