"""What somebody wants to hear of: preferences, one click out, and what the mail provider reports."""
