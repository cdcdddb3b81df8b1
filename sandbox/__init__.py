"""Stand-ins for the outside parties: they keep real books, and break on order."""
