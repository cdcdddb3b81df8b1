"""Every statement on the accounts table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliability.postgres import Connection
from services.accounts.identity.domain import Account, Kind, NewCustomer, Role, Status

if TYPE_CHECKING:
    import asyncpg

__all__ = ["add_customers", "add_owner", "by_email", "by_id", "email_taken"]

_COLUMNS = "id, kind, role, email, name, password_hash, marketing_consent, status, changed_at"

_ADD_CUSTOMERS = """
INSERT INTO accounts (kind, role, email, name, marketing_consent)
SELECT 'customer', 'customer', email, name, consent
  FROM unnest($1::text[], $2::text[], $3::boolean[]) AS new (email, name, consent)
    ON CONFLICT (lower(email)) DO NOTHING
RETURNING id::text
"""
_ADD_OWNER = """
INSERT INTO accounts (kind, role, email, name, password_hash) VALUES ('staff', 'owner', $1, $2, $3)
    ON CONFLICT (lower(email)) DO NOTHING
"""


def _account(row: "asyncpg.Record | None") -> Account | None:
    if row is None:
        return None
    return Account(
        id=str(row["id"]),
        kind=Kind(row["kind"]),
        role=Role(row["role"]),
        email=row["email"],
        name=row["name"],
        password_hash=row["password_hash"],
        marketing_consent=row["marketing_consent"],
        status=Status(row["status"]),
        changed_at=row["changed_at"],
    )


async def by_email(connection: Connection, email: str) -> Account | None:
    """The account with this address, however it is capitalised."""
    statement = f"SELECT {_COLUMNS} FROM accounts WHERE lower(email) = lower($1)"
    return _account(await connection.fetchrow(statement, email))


async def by_id(connection: Connection, account_id: str) -> Account | None:
    """The account with this id."""
    return _account(await connection.fetchrow(f"SELECT {_COLUMNS} FROM accounts WHERE id = $1", account_id))


async def email_taken(connection: Connection, email: str) -> bool:
    """Whether somebody has this address."""
    statement = "SELECT EXISTS (SELECT FROM accounts WHERE lower(email) = lower($1))"
    return bool(await connection.fetchval(statement, email))


async def add_customers(connection: Connection, new: Sequence[NewCustomer]) -> list[str]:
    """Adds those whose address is free; their ids."""
    rows = await connection.fetch(
        _ADD_CUSTOMERS,
        [customer.email for customer in new],
        [customer.name for customer in new],
        [customer.marketing_consent for customer in new],
    )
    return [row["id"] for row in rows]


async def add_owner(connection: Connection, email: str, name: str, password_hash: str) -> bool:
    """Adds an owner; False when the address is taken."""
    return await connection.execute(_ADD_OWNER, email, name, password_hash) == "INSERT 0 1"
