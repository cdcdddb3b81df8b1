"""What a service forgets: one schedule, `purge_expired`, over everything of it that has an end.

retention.register(worker, database, idempotency.purge, inbox.purge)
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from reliability.jobs import Run, Worker
from reliability.postgres import Connection, Database

__all__ = ["EVERY_SECONDS", "PURGE", "Purge", "register"]

PURGE: Final = "purge_expired"
"""The schedule's name."""
EVERY_SECONDS: Final = 3600.0
"""How often it runs by itself."""

Purge = Callable[[Connection], Awaitable[int]]
"""Deletes a batch of what is past retention, and says how many rows it was."""


def register(worker: Worker, database: Database, *purges: Purge) -> None:
    """Makes the schedule known. Each purge is called, a batch to a transaction, until it finds nothing more."""

    async def run(_scheduled_for: datetime) -> Run:
        processed = 0
        for purge in purges:
            while True:
                async with database.transaction("purge expired") as connection:
                    deleted = await purge(connection)
                processed += deleted
                if not deleted:
                    break
        return Run(processed)

    worker.every(EVERY_SECONDS, PURGE, run)
