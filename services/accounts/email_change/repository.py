"""Every statement on changes of addresses."""

from typing import Final

import asyncpg

from reliability.postgres import Connection

__all__ = ["apply", "ask", "confirm", "former", "pending"]

_SUPERSEDE: Final = "UPDATE email_changes SET state = 'superseded' WHERE account_id = $1 AND state = 'asked'"
_ADD: Final = "INSERT INTO email_changes (id, account_id, old_email, new_email) VALUES ($1, $2, $3, $4)"
_CONFIRM: Final = """
UPDATE email_changes
   SET old_confirmed_at = CASE WHEN $2 THEN coalesce(old_confirmed_at, now()) ELSE old_confirmed_at END,
       new_confirmed_at = CASE WHEN $2 THEN new_confirmed_at ELSE coalesce(new_confirmed_at, now()) END
 WHERE id = $1 AND state = 'asked'
RETURNING new_email, old_confirmed_at IS NOT NULL AND new_confirmed_at IS NOT NULL AS both
"""
_APPLIED: Final = "UPDATE email_changes SET state = 'applied' WHERE id = $1 AND state = 'asked'"
_MOVE: Final = "UPDATE accounts SET email = $2, email_verified_at = now(), changed_at = now() WHERE id = $1"
_FORMER: Final = "SELECT DISTINCT old_email FROM email_changes WHERE account_id = $1 AND state = 'applied'"
_PENDING: Final = """
SELECT new_email FROM email_changes WHERE account_id = $1 AND state = 'asked' AND created_at > now() - interval '1 day'
"""


async def ask(connection: Connection, change_id: str, account_id: str, old: str, new: str) -> None:
    """Begins a change; one that was begun before is over. Lock the account first."""
    await connection.execute(_SUPERSEDE, account_id)
    await connection.execute(_ADD, change_id, account_id, old, new)


async def confirm(connection: Connection, change_id: str, *, old: bool) -> tuple[str, bool] | None:
    """Notes a confirmation; the new address and whether both sides have confirmed. None when the change is over."""
    row = await connection.fetchrow(_CONFIRM, change_id, old)
    return None if row is None else (row["new_email"], row["both"])


async def apply(connection: Connection, change_id: str, account_id: str, new: str) -> bool:
    """Moves the account to its new address; False when that is somebody else's."""
    try:
        await connection.execute(_MOVE, account_id, new)
    except asyncpg.UniqueViolationError:
        return False  # and the transaction is of no more use
    await connection.execute(_APPLIED, change_id)
    return True


async def pending(connection: Connection, account_id: str) -> str | None:
    """The address an account waits to have."""
    found: str | None = await connection.fetchval(_PENDING, account_id)
    return found


async def former(connection: Connection, account_id: str) -> list[str]:
    """The addresses an account had before."""
    return [row["old_email"] for row in await connection.fetch(_FORMER, account_id)]
