"""Statements on the accounts of staff."""

from collections.abc import Collection
from typing import Final

from reliability.postgres import Connection
from services.accounts.identity.domain import Account, Permission, Role
from services.accounts.identity.repository import COLUMNS, account_of

__all__ = ["add", "change", "listed", "team"]

_STAFF: Final = f"SELECT {COLUMNS} FROM accounts WHERE kind = 'staff' AND status <> 'erased' ORDER BY id"
_ADD: Final = """
INSERT INTO accounts (kind, role, email, name, permissions) VALUES ('staff', $1, $2, $3, $4)
    ON CONFLICT (lower(email)) DO NOTHING
RETURNING id::text
"""
_CHANGE: Final = "UPDATE accounts SET role = $2, permissions = $3, changed_at = now() WHERE id = $1"


async def listed(connection: Connection) -> list[Account]:
    """Everybody on the staff, the longest there first."""
    return [account_of(row) for row in await connection.fetch(_STAFF)]


async def team(connection: Connection) -> dict[str, Account]:
    """The same by id, all of them locked in that order: whoever changes staff waits for whoever does already."""
    return {str(row["id"]): account_of(row) for row in await connection.fetch(f"{_STAFF} FOR UPDATE")}


async def add(
    connection: Connection, email: str, name: str, role: Role, permissions: Collection[Permission]
) -> str | None:
    """Adds a member without a password; the id, None when the address is taken."""
    added: str | None = await connection.fetchval(_ADD, role, email, name, sorted(permissions))
    return added


async def change(connection: Connection, member_id: str, role: Role, permissions: Collection[Permission]) -> None:
    """Changes what a member is."""
    await connection.execute(_CHANGE, member_id, role, sorted(permissions))
