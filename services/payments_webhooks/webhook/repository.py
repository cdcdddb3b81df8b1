"""Every statement on the inbox that is ours and not the library's."""

from dataclasses import dataclass
from datetime import datetime

from reliability.postgres import Connection

__all__ = ["StoredEvent", "event_type", "find", "known", "page", "unfinished"]

_COLUMNS = "i.id, i.event_id, i.event_type, i.object_key, i.state, i.correlation_id, i.received_at, i.finished_at"
_LAST_ERROR = """
(SELECT j.last_error FROM jobs j
  WHERE j.kind = 'process_event' AND j.state = 'parked' AND j.payload ->> 'inbox_id' = i.id::text
  ORDER BY j.id DESC LIMIT 1) AS last_error
"""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of the inbox. `last_error` is why it was parked, `body` is what came in."""

    id: int
    event_id: str
    event_type: str
    object_key: str
    state: str
    correlation_id: str
    received_at: datetime
    finished_at: datetime | None
    last_error: str | None
    body: bytes = b""


async def page(
    connection: Connection, limit: int, before: int | None, state: str | None, event_type: str | None
) -> list[StoredEvent]:
    """Events without their bodies, newest first, from before the one named."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, {_LAST_ERROR} FROM inbox i
         WHERE ($2::bigint IS NULL OR i.id < $2) AND ($3::text IS NULL OR i.state = $3)
           AND ($4::text IS NULL OR i.event_type = $4)
         ORDER BY i.id DESC LIMIT $1
        """,
        limit,
        before,
        state,
        event_type,
    )
    return [StoredEvent(**row) for row in rows]


async def find(connection: Connection, inbox_id: int) -> StoredEvent | None:
    """An event with its body."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS}, {_LAST_ERROR}, i.body FROM inbox i WHERE i.id = $1", inbox_id)
    return StoredEvent(**row) if row else None


async def event_type(connection: Connection, inbox_id: int) -> str:
    """What kind of event it is; empty for one that is gone."""
    return str(await connection.fetchval("SELECT event_type FROM inbox WHERE id = $1", inbox_id) or "")


async def known(connection: Connection, source: str, event_ids: list[str]) -> set[str]:
    """Those of the events that came in."""
    rows = await connection.fetch(
        "SELECT event_id FROM inbox WHERE source = $1 AND event_id = ANY($2::text[])", source, event_ids
    )
    return {row["event_id"] for row in rows}


async def unfinished(connection: Connection, source: str, object_keys: list[str]) -> set[str]:
    """Those of the objects of which an event waits to be handled."""
    # By their jobs, which are indexed by what they wait for: of millions of events hardly any waits.
    rows = await connection.fetch(
        """
        SELECT object_key FROM unnest($1::text[]) AS object_key
         WHERE EXISTS (SELECT FROM jobs j
                        WHERE j.order_key = $2 || ':' || object_key AND j.state IN ('queued', 'running'))
        """,
        object_keys,
        source,
    )
    return {row["object_key"] for row in rows}
