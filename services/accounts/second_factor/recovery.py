"""Recovery codes: what opens once when the authenticator is lost."""

import base64
import secrets
from typing import Final

from services.accounts.sealing import Sealer

__all__ = ["COUNT", "RecoveryCodes"]

COUNT: Final = 10
_BYTES: Final = 10  # 80 bits, sixteen letters
_GROUP: Final = 4
_USE: Final = "recovery-code"


class RecoveryCodes:
    """Makes codes, and the MACs of them that are stored."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def propose(self) -> list[str]:
        """New codes, grouped so that people can copy them from paper."""
        return [_grouped(base64.b32encode(secrets.token_bytes(_BYTES)).decode()) for _ in range(COUNT)]

    def mac(self, account_id: str, code: str) -> bytes:
        """What is stored of a code, however it is written: it is of one account and says nothing without our secret."""
        plain = code.replace("-", "").replace(" ", "").upper()
        return self._sealer.mac(_USE, f"{account_id}:{plain}".encode())


def _grouped(code: str) -> str:
    return "-".join(code[start : start + _GROUP] for start in range(0, len(code), _GROUP))
