"""What can go wrong when reading traces."""

from reliability.errors import NotFound

__all__ = ["NoSuchTrace"]


class NoSuchTrace(NotFound):
    """Never heard of, or pruned."""

    code, title = "trace_not_found", "There is no such trace"
