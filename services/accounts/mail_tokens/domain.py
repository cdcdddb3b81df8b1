"""What a link stands for, and how its words are made."""

import base64
import hmac
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from services.accounts.sealing import Sealer

__all__ = ["Links", "MailToken", "Purpose"]

_USE: Final = "mail-token"
_ID_BYTES: Final = 16
_MAC_BYTES: Final = 24


class Purpose(StrEnum):
    """What clicking a link does."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a purpose, not a secret
    INVITATION = "invitation"
    OLD_EMAIL = "old_email"
    NEW_EMAIL = "new_email"

    @property
    def lifetime(self) -> timedelta:
        """How long a link works."""
        match self:
            case Purpose.RESET_PASSWORD:
                return timedelta(hours=1)
            case Purpose.VERIFY_EMAIL | Purpose.OLD_EMAIL | Purpose.NEW_EMAIL:
                return timedelta(days=1)
            case Purpose.INVITATION:
                return timedelta(days=7)
            case _:
                assert_never(self)

    @property
    def page(self) -> str:
        """Where a link leads."""
        match self:
            case Purpose.RESET_PASSWORD | Purpose.INVITATION:
                return "/account/reset-password"
            case Purpose.VERIFY_EMAIL | Purpose.OLD_EMAIL | Purpose.NEW_EMAIL:
                return "/account/verify-email"
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True)
class MailToken:
    """What is stored of a link."""

    id: str
    account_id: str
    purpose: Purpose
    email: str
    password_hash: str | None
    change_id: str | None
    new_email: str | None
    expires_at: datetime
    used: bool
    expired: bool


class Links:
    """A link's token is the id of its row and a MAC of it: nothing that is stored anywhere opens anything."""

    def __init__(self, sealer: Sealer, public_url: str) -> None:
        self._sealer = sealer
        self._public_url = public_url

    def link(self, token_id: str, purpose: Purpose) -> str:
        """The address in the mail. What follows `#` stays in the browser: no server on the way logs it."""
        return f"{self._public_url}{purpose.page}#token={self.token(token_id)}"

    def token(self, token_id: str) -> str:
        """The words of a token; the same every time, so that trying again hands over the same mail."""
        raw = uuid.UUID(token_id).bytes
        return base64.urlsafe_b64encode(raw + self._mac(raw)).rstrip(b"=").decode()

    def read(self, token: str) -> str | None:
        """The id in a token we made; None for any other."""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        identifier, mac = raw[:_ID_BYTES], raw[_ID_BYTES:]
        if len(identifier) < _ID_BYTES or not hmac.compare_digest(mac, self._mac(identifier)):
            return None
        return str(uuid.UUID(bytes=identifier))

    def _mac(self, raw: bytes) -> bytes:
        return self._sealer.mac(_USE, raw)[:_MAC_BYTES]
