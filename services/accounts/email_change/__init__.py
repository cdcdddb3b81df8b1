"""Another mail address for an account, confirmed by whoever reads the old one and the new one."""
