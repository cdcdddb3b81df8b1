"""Identities: who somebody is, how they prove it, and the keys that vouch for it."""
