"""Every statement on address books. Lock the account before changing one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from reliability.postgres import Connection
from services.accounts.addresses.schemas import AddressView, NewAddress

if TYPE_CHECKING:
    import asyncpg

__all__ = ["add", "book", "change", "find", "make_default", "remove"]

_FIELDS: Final = ("name", "line1", "line2", "city", "postal_code", "region", "country", "phone")
_COLUMNS: Final = f"id::text, {', '.join(_FIELDS)}, is_default"
_BOOK: Final = f"SELECT {_COLUMNS} FROM addresses WHERE account_id = $1 ORDER BY is_default DESC, id DESC"
_FIND: Final = f"SELECT {_COLUMNS} FROM addresses WHERE account_id = $1 AND id = $2"
_ADD: Final = f"""
INSERT INTO addresses (account_id, {", ".join(_FIELDS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING id::text
"""
_CHANGE: Final = f"""
UPDATE addresses SET {", ".join(f"{name} = ${number}" for number, name in enumerate(_FIELDS, 3))}
 WHERE account_id = $1 AND id = $2
"""
_REMOVE: Final = "DELETE FROM addresses WHERE account_id = $1 AND id = $2 RETURNING is_default"
# The one before stops being it first: at no time are there two.
_NO_DEFAULT: Final = "UPDATE addresses SET is_default = false WHERE account_id = $1 AND is_default AND id <> $2"
_DEFAULT: Final = "UPDATE addresses SET is_default = true WHERE account_id = $1 AND id = $2"


def _view(row: "asyncpg.Record") -> AddressView:
    return AddressView(**dict(row))


async def book(connection: Connection, account_id: str) -> list[AddressView]:
    """The default first, then the newest."""
    return [_view(row) for row in await connection.fetch(_BOOK, account_id)]


async def find(connection: Connection, account_id: str, address_id: str) -> AddressView | None:
    """One of somebody's addresses."""
    row = await connection.fetchrow(_FIND, account_id, address_id)
    return None if row is None else _view(row)


async def add(connection: Connection, account_id: str, address: NewAddress) -> str:
    """Adds an address; its id."""
    values = [getattr(address, name) for name in _FIELDS]
    return str(await connection.fetchval(_ADD, account_id, *values))


async def change(connection: Connection, account_id: str, address_id: str, values: Mapping[str, Any]) -> None:
    """Sets every field of an address."""
    await connection.execute(_CHANGE, account_id, address_id, *(values[name] for name in _FIELDS))


async def remove(connection: Connection, account_id: str, address_id: str) -> bool | None:
    """Deletes an address; whether it was the default, None when there was none."""
    was_default: bool | None = await connection.fetchval(_REMOVE, account_id, address_id)
    return was_default


async def make_default(connection: Connection, account_id: str, address_id: str) -> None:
    """Makes an address the one that is offered first."""
    await connection.execute(_NO_DEFAULT, account_id, address_id)
    await connection.execute(_DEFAULT, account_id, address_id)
