"""Figures over the whole service."""

from reliability import inbox, jobs
from reliability.postgres import Connection

__all__ = ["summary"]


async def summary(connection: Connection) -> tuple[int, int]:
    """Events and jobs that wait for an operator."""
    return await inbox.count_parked(connection), await jobs.count_dead_letters(connection)
