"""One-time codes by the clock (RFC 6238), as the second factor of staff."""

import time
from collections.abc import Callable
from typing import Final

import pyotp

from services.accounts.sealing import Sealer

__all__ = ["Totp"]

_USE: Final = "totp"
_STEP_SECONDS: Final = 30
_ISSUER: Final = "Holdfast"


class Totp:
    """Makes and reads secrets, which are stored sealed; says which time step a code is of."""

    def __init__(self, sealer: Sealer, now: Callable[[], float] = time.time) -> None:
        self._sealer = sealer
        self._now = now

    def propose(self, email: str) -> tuple[bytes, str, str]:
        """A new secret: sealed, as text, and as the address an authenticator reads from a QR code."""
        secret = pyotp.random_base32()
        uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=_ISSUER)
        return self._sealer.seal(_USE, secret.encode()), secret, uri

    def step_of(self, sealed: bytes | None, code: str) -> int | None:
        """The time step that the code is of: this one, or the one before or after; None for a wrong code."""
        secret = self._sealer.open(_USE, sealed) if sealed is not None else None
        if secret is None:
            return None
        totp, step = pyotp.TOTP(secret.decode()), int(self._now()) // _STEP_SECONDS
        for each in (step, step - 1, step + 1):
            if pyotp.utils.strings_equal(totp.generate_otp(each), code):
                return each
        return None
