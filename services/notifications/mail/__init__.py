"""One mail at a time: rendered, stored, sent, and accounted for whatever the mail server does."""
