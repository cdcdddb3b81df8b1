"""One-time codes beside the password: enrolling, and what opens when the authenticator is lost."""
