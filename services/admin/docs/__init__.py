"""What this system answers, for programs and for people."""
