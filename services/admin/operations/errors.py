"""What can go wrong with a dead letter.

NotFound 404 ── NoSuchJob
"""

from reliability.errors import NotFound

__all__ = ["NoSuchJob"]


class NoSuchJob(NotFound):
    """The id names no dead letter."""

    code, title = "job_not_found", "There is no such dead letter"
