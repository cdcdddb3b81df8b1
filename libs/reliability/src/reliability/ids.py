"""Identifiers: UUIDv7 (RFC 9562), which sort by time and so keep B-tree inserts at the right edge."""

import uuid

import uuid_utils

__all__ = ["is_id", "new_id"]


def new_id() -> str:
    """A new UUIDv7 in its canonical text form."""
    return str(uuid_utils.uuid7())


def is_id(value: str) -> bool:
    """Whether `value` is a UUID in canonical form; anything else cannot name a row of ours."""
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False
