"""What is over before its end: sessions, and everything an account was given so far."""
