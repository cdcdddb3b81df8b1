"""A canonical fingerprint of a request: equal requests have equal fingerprints, however they were written."""

import dataclasses
import datetime as dt
import hashlib
import json
import math
import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import BaseModel

__all__ = ["fingerprint"]


def fingerprint(operation: str, payload: Any, *, user: str | None = None) -> str:
    """SHA-256, in hex, of the operation's name, its payload and, unless None, the user it is done for.

    What does not matter: the order of keys and of sets, the unicode form of texts (NFC, Unicode Standard Annex 15),
    whether a list is a tuple, how a number is written (`2`, `2.0`, `Decimal("2.00")`), in which time zone an instant
    is, whether an identifier or a date is an object or its text. What does: everything else, the order of lists too.
    The payload is read once and may change afterwards.

    Raises `TypeError` for an object of any other kind. Its `str` may hold an address in memory, which never is the
    same twice for equal objects, and may be the same for different ones.

    >>> fingerprint("pay", {"a": 1, "b": 2.0}) == fingerprint("pay", {"b": 2, "a": 1})
    True
    >>> fingerprint("pay", {"a": 1}, user="ann") == fingerprint("pay", {"a": 1}, user="bob")
    False
    """
    whose = () if user is None else ({"user": user},)
    return hashlib.sha256(_bytes([operation, payload, *whose])).hexdigest()


def _bytes(value: Any) -> bytes:
    canonical = _canonical(value)
    try:
        return orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # beyond 64 bits, or half a surrogate pair
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass")


def _canonical(value: Any) -> Any:
    """The same value in JSON's types. What requests are made of comes first: this runs on the way of every one."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if kind is dict:
        return _mapping(value)
    if kind is list or kind is tuple:
        return [_canonical(item) for item in value]
    if kind is int or kind is bool or value is None:
        return value
    return _object(value)


def _number(value: float | Decimal) -> Any:
    """Whole numbers as integers, others as the float that is written the same way, else digit by digit."""
    if not math.isfinite(value):
        return {"number": str(value)}
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    nearest = float(value)
    if Decimal(repr(nearest)) == value:
        return _number(nearest)
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits))
    significant = text.rstrip("0")
    return f"{'-' * sign}{significant}E{int(exponent) + len(text) - len(significant)}"


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    items = {_canonical(str(key)): _canonical(item) for key, item in value.items()}
    if len(items) == len(value):
        return items
    # Two keys became one: as they are they stay apart, or a payload could hide a part of itself.
    items = {str(key): _canonical(item) for key, item in value.items()}
    if len(items) < len(value):
        raise TypeError("two keys of a mapping have the same text")
    return items


def _object(value: Any) -> Any:
    """The form of what JSON does not have, and of kinds made from what it has."""
    if isinstance(value, Enum):  # before int and str, which members may be as well
        return _canonical(value.value)
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _canonical(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no canonical form to take a fingerprint of")


def _instant(value: dt.datetime) -> str:
    return (value if value.tzinfo is None else value.astimezone(dt.UTC)).isoformat()


_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    ((float, Decimal), _number),
    (int, int),
    (str, lambda text: _canonical(str(text))),
    (Mapping, _mapping),
    ((list, tuple), lambda items: [_canonical(item) for item in items]),
    ((set, frozenset), lambda items: sorted(map(_canonical, items), key=_bytes)),  # processes order them differently
    (UUID, str),
    (dt.datetime, _instant),  # before date, which it is as well
    ((dt.date, dt.time), lambda day: day.isoformat()),
    (dt.timedelta, lambda time: _canonical(time.total_seconds())),
    ((bytes, bytearray, memoryview), lambda raw: {"bytes": bytes(raw).hex()}),
    (BaseModel, lambda model: _canonical(model.model_dump())),
)
