"""Every statement on the audit log."""

from typing import TYPE_CHECKING

from reliability.postgres import Connection
from services.admin.audit.domain import Appended, AuditFilter, NewEntry

if TYPE_CHECKING:
    import asyncpg

__all__ = ["append", "find", "head", "lock_head", "move_head", "page", "run"]

_COLUMNS = """
a.sequence, a.id::text, a.service, a.happened_at, a.actor, a.action, a.subject, a.detail_json, a.correlation_id,
a.previous, a.hash, CASE WHEN a.sequence = 1 THEN decode(repeat('00', 32), 'hex') ELSE b.hash END AS before
"""
_FROM = f"SELECT {_COLUMNS} FROM audit_log AS a LEFT JOIN audit_log AS b ON b.sequence = a.sequence - 1"
_PAGE = f"""
{_FROM}
 WHERE ($1::bigint IS NULL OR a.sequence < $1) AND ($2::text IS NULL OR a.actor = $2)
   AND ($3::text IS NULL OR a.action = $3) AND ($4::text IS NULL OR a.subject = $4)
 ORDER BY a.sequence DESC LIMIT $5
"""
_RUN = f"{_FROM} WHERE a.sequence > $1 ORDER BY a.sequence LIMIT $2"
_APPEND = """
INSERT INTO audit_log
       (sequence, id, service, happened_at, actor, action, subject, detail_json, correlation_id, previous, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


def _appended(row: "asyncpg.Record") -> Appended:
    entry = NewEntry(
        id=row["id"],
        service=row["service"],
        happened_at=row["happened_at"],
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        detail_json=row["detail_json"],
        correlation_id=row["correlation_id"],
    )
    return Appended(row["sequence"], entry, row["previous"], row["hash"], row["before"])


async def lock_head(connection: Connection) -> tuple[int, bytes]:
    """The end of the chain, kept from all others until the transaction ends."""
    row = await connection.fetchrow("SELECT sequence, hash FROM audit_head FOR UPDATE")
    assert row is not None, "the migration makes it"
    return row["sequence"], row["hash"]


async def head(connection: Connection) -> tuple[int, bytes]:
    """The end of the chain."""
    row = await connection.fetchrow("SELECT sequence, hash FROM audit_head")
    assert row is not None, "the migration makes it"
    return row["sequence"], row["hash"]


async def find(connection: Connection, entry_id: str) -> int | None:
    """The place of an entry that is in the log."""
    place: int | None = await connection.fetchval("SELECT sequence FROM audit_log WHERE id = $1", entry_id)
    return place


async def append(connection: Connection, sequence: int, entry: NewEntry, previous: bytes, digest: bytes) -> None:
    """Adds an entry at the end."""
    await connection.execute(
        _APPEND,
        sequence,
        entry.id,
        entry.service,
        entry.happened_at,
        entry.actor,
        entry.action,
        entry.subject,
        entry.detail_json,
        entry.correlation_id,
        previous,
        digest,
    )


async def move_head(connection: Connection, sequence: int, digest: bytes) -> None:
    """Makes the entry at `sequence` the end."""
    await connection.execute("UPDATE audit_head SET sequence = $1, hash = $2", sequence, digest)


async def page(connection: Connection, which: AuditFilter, before: int | None, limit: int) -> list[Appended]:
    """Entries, the newest first, from the one before `before` on."""
    rows = await connection.fetch(_PAGE, before, which.actor, which.action, which.subject, limit)
    return [_appended(row) for row in rows]


async def run(connection: Connection, after: int, limit: int) -> list[Appended]:
    """Entries in their order, from the one after `after` on."""
    return [_appended(row) for row in await connection.fetch(_RUN, after, limit)]
