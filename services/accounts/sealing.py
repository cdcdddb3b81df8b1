"""What only accounts can make and read again: one secret, a key of its own for each use."""

import base64
import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Sealer"]

_NONCE: Final = 12


class Sealer:
    """Keys are derived from the secret by HMAC-SHA256 over the name of their use."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def mac(self, use: str, message: bytes) -> bytes:
        """32 bytes that prove we made `message`."""
        return hmac.digest(self._key(use), message, "sha256")

    def seal(self, use: str, plain: bytes) -> bytes:
        """Encrypted and authenticated (AES-256-GCM)."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self._key(f"seal:{use}")).encrypt(nonce, plain, None)

    def open(self, use: str, sealed: bytes) -> bytes | None:
        """What was sealed for this use; None for anything we did not seal."""
        try:
            return AESGCM(self._key(f"seal:{use}")).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
        except (InvalidTag, ValueError):
            return None

    def seal_text(self, use: str, plain: bytes) -> str:
        """As text that is safe in cookies and addresses."""
        return base64.urlsafe_b64encode(self.seal(use, plain)).rstrip(b"=").decode()

    def open_text(self, use: str, sealed: str) -> bytes | None:
        """What `seal_text` sealed; None for anything else."""
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except ValueError:
            return None
        return self.open(use, raw)

    def _key(self, use: str) -> bytes:
        return hmac.digest(self._secret, f"holdfast:{use}".encode(), "sha256")
