"""Signs access tokens and publishes what is needed to verify them (RFC 7517, RFC 9864)."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeAlias

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization, OKPKey

from reliability.context import Principal
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.tokens import ALGORITHM, AUDIENCE, ISSUER

__all__ = ["SigningKeys"]

Stamp: TypeAlias = tuple[int, int, int]

_PEM: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL)
_LOOK_SECONDS: Final = 1.0
_LEEWAY_SECONDS: Final = 60.0

_log = get_logger(__name__)


class SigningKeys:
    """Ed25519 keys, of which the first signs; a key's id is its thumbprint (RFC 7638), the same at every replica.

    The file they come from is read again when it changes: see docs/security.md for the order that rotates a key. One
    that is gone from it stays published until the last token it signed has ended.
    """

    def __init__(self, *keys: OKPKey, lifetime: int = 900, now: Callable[[], float] = time.time) -> None:
        self.lifetime = lifetime
        self._keys = keys
        self._now = now
        self._retired: list[tuple[OKPKey, float]] = []
        self._path: Path | None = None
        self._stamp: Stamp | None = None
        self._looked_at = 0.0

    @classmethod
    def load(cls, path: Path, *, lifetime: int = 900, now: Callable[[], float] = time.time) -> Self:
        """The keys in a PEM file. Tokens live for `lifetime` seconds. Raises `ValueError` that says what is wrong."""
        loaded = cls(*_read(path), lifetime=lifetime, now=now)
        loaded._path, loaded._stamp, loaded._looked_at = path, _stamp(path), now()
        return loaded

    def key_set(self) -> KeySetSerialization:
        """The public keys, also of what a retired key has signed."""
        self._renew()
        now = self._now()
        retired = [key for key, until in self._retired if until > now]
        return KeySet([*self._keys, *retired]).as_dict(private=False)

    def jwks(self) -> str:
        """The public keys as the text of a JSON Web Key Set."""
        return orjson.dumps(self.key_set()).decode()

    def _renew(self) -> None:
        """Takes what the file holds now; a file that is no good is left alone, and said so once."""
        now = self._now()
        if self._path is None or abs(now - self._looked_at) < _LOOK_SECONDS:
            return
        self._looked_at = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = _read(self._path)
        except ValueError as error:
            _log.error("signing_keys_unusable", error=str(error))
            return
        kept = {key.thumbprint() for key in keys}
        until = now + self.lifetime + _LEEWAY_SECONDS
        self._retired = [each for each in self._retired if each[1] > now]
        self._retired += [(key, until) for key in self._keys if key.thumbprint() not in kept]
        self._keys = keys
        _log.info("signing_keys_renewed", signs=keys[0].thumbprint(), published=len(keys))

    def access_token(self, who: Principal) -> str:
        """A token that says who somebody is and, for staff, what they may do."""
        self._renew()
        signing = self._keys[0]
        now = int(self._now())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": who.id,
            "iat": now,
            "exp": now + self.lifetime,
            "jti": new_id(),
            "kind": who.kind,
            "email": who.email,
            "name": who.name,
            "role": who.role,
            "permissions": sorted(who.permissions),
            **({"sid": who.session} if who.session else {}),
        }
        return jwt.encode({"alg": ALGORITHM, "kid": signing.thumbprint()}, claims, signing, algorithms=[ALGORITHM])


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> tuple[OKPKey, ...]:
    try:
        blocks = _PEM.findall(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read the signing key: {error.strerror}") from None
    if not blocks:
        raise ValueError("the signing key is not a private key in PEM form")
    return tuple(map(_key, blocks))


def _key(block: bytes) -> OKPKey:
    try:
        key = OKPKey.import_key(block, {"use": "sig", "alg": ALGORITHM})
    except (JoseError, ValueError, TypeError):
        raise ValueError("the signing key is not a private key in PEM form") from None
    if key.curve_name != "Ed25519" or not key.is_private:
        raise ValueError("the signing key is not a private Ed25519 key")
    key.ensure_kid()
    return key
