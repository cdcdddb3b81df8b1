"""The basket before an order: guests keep theirs by a signed cookie."""
