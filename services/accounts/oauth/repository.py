"""Every statement on identities at providers."""

from typing import Final

from reliability.postgres import Connection
from services.accounts.oauth.domain import Identity

__all__ = ["add_customer", "find", "link", "take_over"]

_FIND: Final = "SELECT account_id::text FROM identities WHERE provider = $1 AND subject = $2"
_LINK: Final = """
INSERT INTO identities (provider, subject, account_id, email) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_ADD_CUSTOMER: Final = """
INSERT INTO accounts (kind, role, email, name, email_verified_at) VALUES ('customer', 'customer', $1, $2, now())
    ON CONFLICT (lower(email)) DO NOTHING
RETURNING id::text
"""
_TAKE_OVER: Final = """
UPDATE accounts SET password_hash = NULL, email_verified_at = now(), changed_at = now() WHERE id = $1
"""


async def find(connection: Connection, identity: Identity) -> str | None:
    """The account that an identity opens."""
    found: str | None = await connection.fetchval(_FIND, identity.provider, identity.subject)
    return found


async def link(connection: Connection, identity: Identity, account_id: str) -> None:
    """Lets an identity open an account; linked before, it stays with the account it was linked to."""
    await connection.execute(_LINK, identity.provider, identity.subject, account_id, identity.email)


async def add_customer(connection: Connection, email: str, name: str) -> str | None:
    """Adds a customer whose address the provider has verified; None when the address is taken."""
    added: str | None = await connection.fetchval(_ADD_CUSTOMER, email, name)
    return added


async def take_over(connection: Connection, account_id: str) -> None:
    """Gives an account whose address nobody had proven to whoever has now: the password was not theirs."""
    await connection.execute(_TAKE_OVER, account_id)
