"""Signing in with an account at somebody else's: OpenID Connect, by configuration."""
