"""The audit log: what staff did in every service, as a chain of hashes."""
