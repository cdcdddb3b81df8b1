"""Opaque cursors: the place in the list where the next page starts.

A cursor is not a secret and needs no signature: whoever makes one up reads public rows from another place.
"""

import base64
import binascii
from typing import Any, Final
from uuid import UUID

import orjson

from reliability.errors import FieldError, ValidationFailed
from services.catalog.products.domain import Position, Sort

__all__ = ["decode", "encode"]

_BIGINT_MAX: Final = 2**63 - 1


def encode(sort: Sort, position: Position) -> str:
    """The cursor of a position, in characters that need no escaping in a URL."""
    return base64.urlsafe_b64encode(orjson.dumps([sort, position.key, str(position.id)])).decode().rstrip("=")


def decode(sort: Sort, cursor: str) -> Position:
    """The position in a cursor. Raises `ValidationFailed` for one we did not make, or made for another sort."""
    try:
        made_for, key, identifier = orjson.loads(_unpack(cursor))
        position = Position(_key(sort, key), UUID(identifier))
    except (ValueError, TypeError, AttributeError):
        raise _refused("is not a cursor of this list; start again without one") from None
    if made_for != sort:
        raise _refused("belongs to a list in another order; start again without a cursor")
    return position


def _unpack(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _key(sort: Sort, key: Any) -> int | str | None:
    """The key when it is of the sort's type: what the database cannot compare must not reach it."""
    match sort, key:
        case Sort.NEWEST, None:
            return None
        case ((Sort.PRICE | Sort.PRICE_DOWN), int()) if not isinstance(key, bool) and 0 <= key <= _BIGINT_MAX:
            return key
        case ((Sort.TITLE | Sort.TITLE_DOWN), str()) if "\0" not in key:
            return key
        case _:
            raise ValueError


def _refused(message: str) -> ValidationFailed:
    return ValidationFailed([FieldError("/cursor", message)])
