"""A session: a family of refresh tokens, each made from the one before it."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.accounts.identity.domain import Account

__all__ = [
    "GRACE",
    "LIFETIME",
    "Device",
    "EndReason",
    "Presented",
    "Rotation",
    "StoredSession",
    "hash_of",
    "judge",
    "new_token",
    "successor",
]

LIFETIME: Final = timedelta(days=30)
"""How long a session lasts without being used."""

GRACE: Final = timedelta(seconds=30)
"""How long the token before the current one gets the same answer again: the first answer may have been lost."""

_BYTES: Final = 32


class EndReason(StrEnum):
    """Why a session is over before its time."""

    LOGOUT = "logout"
    REVOKED = "revoked"
    PASSWORD = "password"  # noqa: S105 - a reason, not a secret
    REUSE = "reuse"
    SUSPENDED = "suspended"
    ERASED = "erased"


class Rotation(StrEnum):
    """What becomes of a refresh token that is presented."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REUSE = "reuse"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Device:
    """Where somebody is: the address they come from, and what their browser calls itself."""

    client: str
    name: str


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it is listed."""

    id: str
    device: Device
    created_at: datetime
    rotated_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token that was issued, with its session and account, both locked."""

    session: StoredSession
    account: Account
    secret: bytes
    generation: int
    current: int
    ended: bool
    now: datetime


def judge(presented: Presented, device: Device) -> Rotation:
    """What a presented token is good for.

    The current one rotates, once. Its predecessor gets the same successor again, for a moment, on the device that
    rotated it: an answer may be lost, and two tabs may ask at once. Every other use is somebody else's.
    """
    if presented.ended or presented.session.expires_at <= presented.now:
        return Rotation.OVER
    if presented.generation == presented.current:
        return Rotation.ROTATE
    just_now = presented.now - presented.session.rotated_at <= GRACE
    if presented.generation == presented.current - 1 and just_now and device == presented.session.device:
        return Rotation.REPEAT
    return Rotation.REUSE


def new_token() -> str:
    """The first refresh token of a session."""
    return secrets.token_urlsafe(_BYTES)


def successor(token: str, secret: bytes) -> str:
    """The token after `token`: nobody can make it who has only one of token and session secret."""
    digest = hmac.new(secret, token.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def hash_of(token: str) -> bytes:
    """What is stored of a token. It is random already, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).digest()
