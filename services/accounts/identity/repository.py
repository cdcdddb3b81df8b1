"""Every statement on the accounts table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reliability.postgres import Connection
from services.accounts.identity.domain import Account, Kind, NewCustomer, Permission, Role, Status, permissions_of

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "COLUMNS",
    "account_of",
    "add_customers",
    "add_owner",
    "by_email",
    "by_id",
    "email_taken",
    "lock",
    "set_status",
]

COLUMNS = """
id, kind, role, email, name, password_hash, marketing_consent, status, changed_at, created_at, email_verified_at,
permissions, totp_secret
"""

_ADD_CUSTOMERS = """
INSERT INTO accounts (kind, role, email, name, marketing_consent, email_verified_at)
SELECT 'customer', 'customer', email, name, consent, now()
  FROM unnest($1::text[], $2::text[], $3::boolean[]) AS new (email, name, consent)
    ON CONFLICT (lower(email)) DO NOTHING
RETURNING id::text
"""
_ADD_OWNER = """
INSERT INTO accounts (kind, role, email, name, password_hash, email_verified_at)
VALUES ('staff', 'owner', $1, $2, $3, now())
    ON CONFLICT (lower(email)) DO NOTHING
"""
_SET_STATUS = "UPDATE accounts SET status = $2, changed_at = now() WHERE id = $1"


def account_of(row: "asyncpg.Record") -> Account:
    """The account in a row of the accounts table."""
    role = Role(row["role"])
    return Account(
        id=str(row["id"]),
        kind=Kind(row["kind"]),
        role=role,
        email=row["email"],
        name=row["name"],
        password_hash=row["password_hash"],
        marketing_consent=row["marketing_consent"],
        status=Status(row["status"]),
        changed_at=row["changed_at"],
        created_at=row["created_at"],
        email_verified=row["email_verified_at"] is not None,
        permissions=permissions_of(role, map(Permission, row["permissions"])),
        totp_secret=row["totp_secret"],
    )


def _account(row: "asyncpg.Record | None") -> Account | None:
    return None if row is None else account_of(row)


async def by_email(connection: Connection, email: str) -> Account | None:
    """The account with this address, however it is capitalised."""
    statement = f"SELECT {COLUMNS} FROM accounts WHERE lower(email) = lower($1)"
    return _account(await connection.fetchrow(statement, email))


async def by_id(connection: Connection, account_id: str) -> Account | None:
    """The account with this id."""
    return _account(await connection.fetchrow(f"SELECT {COLUMNS} FROM accounts WHERE id = $1", account_id))


async def lock(connection: Connection, account_id: str, *, change: bool = False) -> Account | None:
    """The account as it is and stays until the transaction ends; `change` keeps out whoever only reads it so, too."""
    strength = "FOR UPDATE" if change else "FOR SHARE"
    statement = f"SELECT {COLUMNS} FROM accounts WHERE id = $1 {strength}"
    return _account(await connection.fetchrow(statement, account_id))


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


async def set_status(connection: Connection, account_id: str, status: Status) -> None:
    """Suspends an account, or lets it in again."""
    await connection.execute(_SET_STATUS, account_id, status)
