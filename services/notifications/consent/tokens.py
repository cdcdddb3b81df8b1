"""Signed words in a link: whose address, about what, and whether it declines or agrees.

Nothing is stored for a link in a mail that may be opened years later; whoever holds the secret made it.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from services.notifications.errors import NoSuchToken
from services.notifications.mail.domain import Topic

__all__ = ["Intent", "Links"]

Purpose = Literal["decline", "agree"]
_SIGNATURE_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class Intent:
    """What a link does."""

    address: str
    topic: Topic
    purpose: Purpose


class Links:
    """Makes links and reads them. `public_url` is where the shop is reached."""

    def __init__(self, secret: str, public_url: str, now: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode()
        self._public_url = public_url.rstrip("/")
        self._now = now

    def decline(self, address: str, topic: Topic) -> str:
        """The address behind "unsubscribe"; it works for as long as the secret is kept."""
        return self._link({"a": address, "t": topic, "p": "decline"})

    def agree(self, address: str, topic: Topic, until: float) -> str:
        """The address behind "yes, send me news"; it works until that time, in seconds since 1970."""
        return self._link({"a": address, "t": topic, "p": "agree", "u": int(until)})

    def read(self, token: str) -> Intent:
        """What a token asks for. Raises `NoSuchToken` for one that is not ours, or is over."""
        words, _, signature = token.partition(".")
        if not hmac.compare_digest(self._sign(words).encode(), signature.encode()):
            raise NoSuchToken
        try:
            said: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(words + "=" * (-len(words) % 4)))
            intent = Intent(said["a"], Topic(said["t"]), said["p"])
        except (binascii.Error, ValueError, KeyError, TypeError):
            raise NoSuchToken from None
        if "u" in said and said["u"] < self._now():
            raise NoSuchToken
        return intent

    def _link(self, said: dict[str, Any]) -> str:
        words = base64.urlsafe_b64encode(orjson.dumps(said)).decode().rstrip("=")
        return f"{self._public_url}/api/unsubscribe/{words}.{self._sign(words)}"

    def _sign(self, words: str) -> str:
        digest = hmac.new(self._secret, words.encode(), hashlib.sha256).digest()[:_SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
