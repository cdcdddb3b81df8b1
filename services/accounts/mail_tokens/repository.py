"""Every statement on the tokens of links."""

from typing import TYPE_CHECKING

from reliability.postgres import Connection
from services.accounts.mail_tokens.domain import MailToken, Purpose

if TYPE_CHECKING:
    import asyncpg

__all__ = ["add", "find", "lock", "prune", "use", "void"]

_ADD = """
INSERT INTO mail_tokens (id, account_id, purpose, email, password_hash, change_id, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7)
    ON CONFLICT (id) DO NOTHING
"""
_FIND = """
SELECT id::text, account_id::text, purpose, email, password_hash, change_id::text,
       (SELECT new_email FROM email_changes WHERE email_changes.id = change_id) AS new_email,
       expires_at, used_at IS NOT NULL AS used, expires_at <= now() AS expired
  FROM mail_tokens WHERE id = $1
"""
_USE = "UPDATE mail_tokens SET used_at = now() WHERE id = $1 AND used_at IS NULL"
_VOID = """
UPDATE mail_tokens SET expires_at = now() WHERE account_id = $1 AND purpose = ANY($2) AND used_at IS NULL
"""
_PRUNE = """
DELETE FROM mail_tokens WHERE id IN (
    SELECT id FROM mail_tokens WHERE expires_at < now() - $1 * interval '1 day' LIMIT 10000)
"""


def _token(row: "asyncpg.Record | None") -> MailToken | None:
    return None if row is None else MailToken(**{**dict(row), "purpose": Purpose(row["purpose"])})


async def add(
    connection: Connection,
    token_id: str,
    account_id: str,
    purpose: Purpose,
    email: str,
    *,
    password_hash: str | None = None,
    change_id: str | None = None,
) -> None:
    """Notes a link that is to be sent to `email`; noted twice, it is there once."""
    await connection.execute(_ADD, token_id, account_id, purpose, email, password_hash, change_id, purpose.lifetime)


async def find(connection: Connection, token_id: str) -> MailToken | None:
    """A link by its id."""
    return _token(await connection.fetchrow(_FIND, token_id))


async def lock(connection: Connection, token_id: str) -> MailToken | None:
    """A link by its id, kept from others until the transaction ends. Lock its account first."""
    return _token(await connection.fetchrow(f"{_FIND} FOR UPDATE", token_id))


async def use(connection: Connection, token_id: str) -> None:
    """A link works once."""
    await connection.execute(_USE, token_id)


async def void(connection: Connection, account_id: str, *purposes: Purpose) -> None:
    """Makes the links of an account for these purposes good for nothing."""
    await connection.execute(_VOID, account_id, list(purposes))


async def prune(connection: Connection, days: int) -> int:
    """Deletes links that ran out so many days ago, 10,000 at most; how many."""
    return int((await connection.execute(_PRUNE, days)).split()[-1])
