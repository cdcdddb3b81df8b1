"""The links in our mails: each works once, for a while, for one thing."""
