"""Every statement on sessions and their refresh tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliability.postgres import Connection
from services.accounts.identity import repository as accounts
from services.accounts.session.domain import LIFETIME, Device, EndReason, Presented, StoredSession

if TYPE_CHECKING:
    import asyncpg

__all__ = ["add", "add_token", "end", "end_all", "live", "present", "prune", "rotate"]

_ADD = """
INSERT INTO sessions (account_id, device, client, secret, expires_at) VALUES ($1, $2, $3, $4, now() + $5)
RETURNING id::text
"""
_ISSUE = "INSERT INTO refresh_tokens (hash, session_id, generation) VALUES ($1, $2, $3)"
_COLUMNS = "s.id::text, s.device, s.client, s.created_at, s.rotated_at, s.expires_at"
_WHOSE = """
SELECT s.account_id FROM refresh_tokens AS t JOIN sessions AS s ON s.id = t.session_id WHERE t.hash = $1
"""
_PRESENT = f"""
SELECT {_COLUMNS}, s.secret, s.generation AS current, t.generation, s.ended_at IS NOT NULL AS ended,
       clock_timestamp() AS now
  FROM refresh_tokens AS t JOIN sessions AS s ON s.id = t.session_id
 WHERE t.hash = $1
   FOR UPDATE OF s
"""
_ROTATE = """
UPDATE sessions SET generation = generation + 1, rotated_at = now(), expires_at = now() + $4, device = $2, client = $3
 WHERE id = $1
RETURNING generation
"""
_LIVE = f"""
SELECT {_COLUMNS} FROM sessions AS s WHERE account_id = $1 AND ended_at IS NULL AND expires_at > now() ORDER BY id DESC
"""
_END = """
UPDATE sessions SET ended_at = now(), end_reason = $3 WHERE id = $1 AND account_id = $2 AND ended_at IS NULL
"""
_END_ALL = """
UPDATE sessions SET ended_at = now(), end_reason = $2
 WHERE account_id = $1 AND ended_at IS NULL AND ($3::uuid IS NULL OR id <> $3)
RETURNING id::text
"""
_PRUNE = """
DELETE FROM sessions WHERE id IN (
    SELECT id FROM sessions WHERE expires_at < now() - $1 * interval '1 day' LIMIT 1000)
"""


def _session(row: "asyncpg.Record") -> StoredSession:
    device = Device(row["client"], row["device"])
    return StoredSession(row["id"], device, row["created_at"], row["rotated_at"], row["expires_at"])


async def add(connection: Connection, account_id: str, device: Device, secret: bytes) -> str:
    """Begins a session; its id."""
    return str(await connection.fetchval(_ADD, account_id, device.name, device.client, secret, LIFETIME))


async def add_token(connection: Connection, session_id: str, generation: int, digest: bytes) -> None:
    """Notes a refresh token."""
    await connection.execute(_ISSUE, digest, session_id, generation)


async def present(connection: Connection, digest: bytes) -> Presented | None:
    """What is known of a token, its session locked and its account kept as it is; None when we never issued it."""
    account_id = await connection.fetchval(_WHOSE, digest)
    if account_id is None:
        return None
    # The account first, as everybody does who locks both.
    account = await accounts.lock(connection, account_id)
    row = await connection.fetchrow(_PRESENT, digest)
    if account is None or row is None:
        return None
    return Presented(_session(row), account, row["secret"], row["generation"], row["current"], row["ended"], row["now"])


async def rotate(connection: Connection, session_id: str, device: Device) -> int:
    """Begins the next generation; its number."""
    return int(await connection.fetchval(_ROTATE, session_id, device.name, device.client, LIFETIME))


async def live(connection: Connection, account_id: str) -> list[StoredSession]:
    """The sessions of an account that are not over, the newest first."""
    return [_session(row) for row in await connection.fetch(_LIVE, account_id)]


async def end(connection: Connection, session_id: str, account_id: str, reason: EndReason) -> bool:
    """Ends a session; False when there is no such one that is not over."""
    return await connection.execute(_END, session_id, account_id, reason) == "UPDATE 1"


async def end_all(
    connection: Connection, account_id: str, reason: EndReason, *, but: str | None = None
) -> Sequence[str]:
    """Ends every session of an account except `but`; their ids."""
    return [row["id"] for row in await connection.fetch(_END_ALL, account_id, reason, but)]


async def prune(connection: Connection, days: int) -> int:
    """Deletes sessions that ran out so many days ago, with their tokens, 1,000 at most; how many."""
    return int((await connection.execute(_PRUNE, days)).split()[-1])
