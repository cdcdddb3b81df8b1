"""Every statement on incidents."""

from typing import TYPE_CHECKING

from reliability.postgres import Connection
from services.admin.incidents.domain import Incident, IncidentState, NewIncident

if TYPE_CHECKING:
    import asyncpg

__all__ = ["acknowledge", "count_open", "insert", "lock", "page", "resolve"]

_COLUMNS = """
id::text, service, kind, summary, detail, correlation_id, state, raised_at, acknowledged_by, acknowledged_at,
resolved_by, resolved_at
"""
_INSERT = """
INSERT INTO incidents (service, key, kind, summary, detail, correlation_id) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (service, key) DO NOTHING
RETURNING id::text
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM incidents
 WHERE ($1::text IS NULL OR state = $1) AND ($2::uuid IS NULL OR id < $2)
 ORDER BY id DESC LIMIT $3
"""
_ACKNOWLEDGE = """
UPDATE incidents SET state = 'acknowledged', acknowledged_by = $2, acknowledged_at = now()
 WHERE id = $1 AND state = 'open'
"""
_RESOLVE = """
UPDATE incidents SET state = 'resolved', resolved_by = $2, resolved_at = now() WHERE id = $1 AND state <> 'resolved'
"""


def _incident(row: "asyncpg.Record") -> Incident:
    return Incident(**(dict(row) | {"state": IncidentState(row["state"])}))


async def insert(connection: Connection, new: NewIncident) -> tuple[str, bool]:
    """The incident's id, and whether it is a new one."""
    values = (new.service, new.key, new.kind, new.summary, dict(new.detail), new.correlation_id)
    made: str | None = await connection.fetchval(_INSERT, *values)
    if made is not None:
        return made, True
    found = "SELECT id::text FROM incidents WHERE service = $1 AND key = $2"
    return str(await connection.fetchval(found, new.service, new.key)), False


async def lock(connection: Connection, incident_id: str) -> Incident | None:
    """The incident, locked until the transaction ends."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM incidents WHERE id = $1 FOR UPDATE", incident_id)
    return None if row is None else _incident(row)


async def acknowledge(connection: Connection, incident_id: str, staff_id: str) -> bool:
    """Notes who looks after an open one; False when it is not open."""
    return await connection.execute(_ACKNOWLEDGE, incident_id, staff_id) == "UPDATE 1"


async def resolve(connection: Connection, incident_id: str, staff_id: str) -> bool:
    """Notes who ended one; False when it was over."""
    return await connection.execute(_RESOLVE, incident_id, staff_id) == "UPDATE 1"


async def page(connection: Connection, state: str | None, before: str | None, limit: int) -> list[Incident]:
    """Incidents, the newest first."""
    return [_incident(row) for row in await connection.fetch(_PAGE, state, before, limit)]


async def count_open(connection: Connection) -> int:
    """How many are not resolved."""
    return int(await connection.fetchval("SELECT count(*) FROM incidents WHERE state <> 'resolved'"))
