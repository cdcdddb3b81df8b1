"""Orders as a table for a spreadsheet."""
