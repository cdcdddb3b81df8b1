"""Statements on everything an account consists of."""

from typing import Any, Final

from reliability.postgres import Connection

__all__ = ["change", "erase", "hand_over", "held"]

_CHANGE: Final = """
UPDATE accounts SET name = coalesce($2, name), marketing_consent = coalesce($3, marketing_consent), changed_at = now()
 WHERE id = $1
"""
_ERASE: Final = """
UPDATE accounts
   SET email = 'erased-' || id || '@erased.example', name = 'Erased', password_hash = NULL, marketing_consent = false,
       status = 'erased', totp_secret = NULL, totp_proposed = NULL, changed_at = now()
 WHERE id = $1
"""
_FORGET: Final = (
    "UPDATE sessions SET device = '', client = '' WHERE account_id = $1",
    "DELETE FROM mail_tokens WHERE account_id = $1",
    "DELETE FROM email_changes WHERE account_id = $1",
    "DELETE FROM identities WHERE account_id = $1",
    "DELETE FROM addresses WHERE account_id = $1",
    "DELETE FROM recovery_codes WHERE account_id = $1",
)
_HAND_OVER: Final = (
    "UPDATE accounts SET totp_secret = NULL, totp_proposed = NULL WHERE id = $1",
    "DELETE FROM recovery_codes WHERE account_id = $1",
    "DELETE FROM addresses WHERE account_id = $1",
    "UPDATE email_changes SET state = 'superseded' WHERE account_id = $1 AND state = 'asked'",
)
_HELD: Final = {
    "addresses": """
        SELECT id::text, name, line1, line2, city, postal_code, region, country, phone, is_default, created_at
          FROM addresses WHERE account_id = $1 ORDER BY id""",
    "sessions": """
        SELECT id::text, device, client AS client_address, created_at, rotated_at AS last_used_at, ended_at, end_reason
          FROM sessions WHERE account_id = $1 ORDER BY id""",
    "sign_ins": "SELECT provider, subject, email, linked_at FROM identities WHERE account_id = $1 ORDER BY linked_at",
    "email_changes": """
        SELECT old_email, new_email, state, created_at FROM email_changes WHERE account_id = $1 ORDER BY created_at""",
}


async def change(connection: Connection, account_id: str, name: str | None, consent: bool | None) -> None:
    """Changes what is given."""
    await connection.execute(_CHANGE, account_id, name, consent)


async def erase(connection: Connection, account_id: str) -> None:
    """Leaves a tombstone: the id that orders refer to, and nothing that says who it was."""
    await connection.execute(_ERASE, account_id)
    for statement in _FORGET:
        await connection.execute(statement, account_id)


async def hand_over(connection: Connection, account_id: str) -> None:
    """Clears an account that nobody had proven for whoever has now.

    A second factor that somebody planted would lock them out, an address would have their parcels.
    """
    for statement in _HAND_OVER:
        await connection.execute(statement, account_id)


async def held(connection: Connection, account_id: str) -> dict[str, list[dict[str, Any]]]:
    """What is kept about somebody beside the account itself."""
    return {
        name: [dict(row) for row in await connection.fetch(statement, account_id)] for name, statement in _HELD.items()
    }
