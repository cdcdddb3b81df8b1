"""Dead letters of every service, and what all of them do at once."""
