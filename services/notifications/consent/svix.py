"""Signatures of Svix, through which Resend sends its webhooks: https://docs.svix.com/receiving/verifying-payloads/how-manual."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from reliability.inbox import InvalidSignature, StaleSignature

__all__ = ["verify"]

_TOLERANCE: Final = 300.0
_PREFIX: Final = "whsec_"


def verify(
    body: bytes, headers: Mapping[str, str], secrets: Sequence[str], *, now: Callable[[], float] = time.time
) -> str:
    """The event's id, when one of our secrets signed it lately. Raises `InvalidSignature` or `StaleSignature`."""
    event_id, stamp = headers.get("svix-id", ""), headers.get("svix-timestamp", "")
    given = [entry.removeprefix("v1,") for entry in headers.get("svix-signature", "").split(" ") if entry[:3] == "v1,"]
    if not event_id or not given or not (stamp.isascii() and stamp.isdigit()):
        message = "The signature headers are missing or malformed."
        raise InvalidSignature(message)
    signed = f"{event_id}.{stamp}.".encode() + body
    expected = [_sign(signed, key) for key in map(_key, secrets) if key]
    if not any(hmac.compare_digest(mine, theirs.encode()) for mine in expected for theirs in given):
        message = "The signature was not made with a secret we know."
        raise InvalidSignature(message)
    if abs(now() - int(stamp)) > _TOLERANCE:
        message = f"The signature is more than {_TOLERANCE:.0f} seconds away from our clock."
        raise StaleSignature(message)
    return event_id


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return b""  # matches nothing: an empty key is refused above


def _sign(signed: bytes, key: bytes) -> bytes:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
