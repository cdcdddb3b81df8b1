"""Opening an account, proving an address, and choosing passwords."""
