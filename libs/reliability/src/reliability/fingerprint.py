"""A canonical fingerprint of a request: equal requests have equal fingerprints, however they were written."""

import hashlib
import json
import math
import unicodedata
from typing import Any

__all__ = ["fingerprint"]


def _canonical(value: Any) -> Any:
    """Key order, unicode form and the spelling of whole floats do not matter."""
    match value:
        case dict():
            return {unicodedata.normalize("NFC", str(key)): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case str():
            return unicodedata.normalize("NFC", value)
        case float() if math.isfinite(value) and value.is_integer():
            return int(value)
        case _:
            return value


def fingerprint(operation: str, payload: Any) -> str:
    """SHA-256, in hex, of the operation's name and its payload.

    >>> fingerprint("pay", {"a": 1, "b": 2.0}) == fingerprint("pay", {"b": 2, "a": 1})
    True
    """
    text = json.dumps(
        [operation, _canonical(payload)], sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
