"""Every statement on revocations."""

from collections.abc import Sequence

from reliability.postgres import Connection

__all__ = ["add", "covers", "prune", "since"]

_ADD = """
INSERT INTO revocations (name) SELECT unnest($1::text[])
    ON CONFLICT (name) DO UPDATE SET revoked_at = excluded.revoked_at
"""
_SINCE = """
SELECT name, extract(epoch FROM revoked_at)::float8 AS revoked_at FROM revocations
 WHERE revoked_at > now() - $1 * interval '1 second'
"""
_COVERS = """
SELECT EXISTS (SELECT FROM revocations WHERE name = $1)
    OR EXISTS (SELECT FROM revocations WHERE name = $2 AND extract(epoch FROM revoked_at) >= $3)
"""
_PRUNE = """
DELETE FROM revocations WHERE name IN (
    SELECT name FROM revocations WHERE revoked_at < now() - $1 * interval '1 second' LIMIT 10000)
"""


async def add(connection: Connection, names: Sequence[str]) -> None:
    """Takes back what these stand for, as of now."""
    await connection.execute(_ADD, names)


async def since(connection: Connection, seconds: float) -> dict[str, float]:
    """What was taken back in the last so many seconds, with the Unix time."""
    return {row["name"]: row["revoked_at"] for row in await connection.fetch(_SINCE, seconds)}


async def covers(connection: Connection, session: str, account: str, issued_at: float) -> bool:
    """Whether the session is over, or all that the account was given until then."""
    return bool(await connection.fetchval(_COVERS, session, account, issued_at))


async def prune(connection: Connection, seconds: float) -> int:
    """Forgets what is older, 10,000 at most; how many."""
    return int((await connection.execute(_PRUNE, seconds)).split()[-1])
