"""A mailbox that stands in for the outside world's mail servers."""
