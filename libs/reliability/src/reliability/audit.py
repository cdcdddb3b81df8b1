"""Who did what: a row in the transaction of the change, handed on to a log that cannot be changed unseen.

    async with database.transaction("suspend") as connection:
        await repository.suspend(connection, customer_id)
        await audit.record(connection, staff_id, "customer.suspended", customer_id, reason=reason)

The row commits or vanishes with the change; its job gives it to `append`, until that says it has it:

    audit.deliver(worker, database, append)

A row may be handed over twice: the log takes each id once.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reliability import jobs
from reliability.context import correlation_id
from reliability.ids import new_id
from reliability.jobs import Job, Worker
from reliability.postgres import Connection, Database

__all__ = ["APPEND", "Append", "Entry", "deliver", "record"]

APPEND: Final = "append_audit"
"""The kind of the job that hands an entry on."""
# Full jitter up to five minutes makes this about a day and a half: the log may be away for that long.
_ATTEMPTS: Final = 1000

_RECORD = """
INSERT INTO audit_entries (id, actor, action, subject, detail, correlation_id) VALUES ($1, $2, $3, $4, $5, $6)
"""
_FIND = """
SELECT id::text, happened_at, actor, action, subject, detail, correlation_id FROM audit_entries WHERE id = $1
"""
_APPENDED = "UPDATE audit_entries SET appended_at = now() WHERE id = $1 AND appended_at IS NULL"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing somebody did: `action` says what, `subject` to what, `detail` how, as JSON values."""

    id: str
    happened_at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    correlation_id: str


Append = Callable[[Entry], Awaitable[None]]
"""Hands an entry to the log, which has to take one of the same id once only. Any error: it is tried again."""


async def record(connection: Connection, actor: str, action: str, subject: str, **detail: Any) -> str:
    """Writes down that `actor` did `action` to `subject`, in the caller's transaction; the entry's id.

    `detail` is kept for good: no secrets, and of personal data no more than an id.
    """
    entry_id = new_id()
    await connection.execute(_RECORD, entry_id, actor, action, subject, detail, correlation_id())
    await jobs.enqueue(connection, APPEND, {"id": entry_id}, unique_key=entry_id, max_attempts=_ATTEMPTS)
    return entry_id


def deliver(worker: Worker, database: Database, append: Append) -> None:
    """Makes `worker` hand every recorded entry to `append`."""

    async def hand_over(job: Job) -> None:
        entry_id = job.payload["id"]
        async with database.connection() as connection:
            row = await connection.fetchrow(_FIND, entry_id)
        if row is None:
            raise jobs.Park(f"the audit entry {entry_id} is gone")
        await append(Entry(**dict(row)))
        async with database.transaction("audit appended") as connection:
            await connection.execute(_APPENDED, entry_id)
            await job.complete(connection)

    worker.handle(APPEND, hand_over)
