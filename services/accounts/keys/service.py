"""Signs access tokens and publishes what is needed to verify them (RFC 7517, RFC 9864)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization, OKPKey

from reliability.context import Principal
from reliability.ids import new_id
from reliability.tokens import ALGORITHM, AUDIENCE, ISSUER

__all__ = ["SigningKeys"]


class SigningKeys:
    """One Ed25519 key; its id is its thumbprint (RFC 7638), so every replica calls it the same."""

    def __init__(self, key: OKPKey, *, lifetime: int = 900, now: Callable[[], float] = time.time) -> None:
        self.lifetime = lifetime
        self._key = key
        self._kid = key.thumbprint()
        self._now = now
        self._public = KeySet([key]).as_dict(private=False)

    @classmethod
    def load(cls, path: Path, *, lifetime: int = 900) -> Self:
        """The key in a PEM file. Tokens live for `lifetime` seconds. Raises `ValueError` that says what is wrong."""
        try:
            key = OKPKey.import_key(path.read_bytes(), {"use": "sig", "alg": ALGORITHM})
        except OSError as error:
            raise ValueError(f"cannot read the signing key: {error.strerror}") from None
        except (JoseError, ValueError, TypeError):
            raise ValueError("the signing key is not a private key in PEM form") from None
        if key.curve_name != "Ed25519" or not key.is_private:
            raise ValueError("the signing key is not a private Ed25519 key")
        key.ensure_kid()
        return cls(key, lifetime=lifetime)

    def key_set(self) -> KeySetSerialization:
        """The public keys."""
        return self._public

    def jwks(self) -> str:
        """The public keys as the text of a JSON Web Key Set."""
        return orjson.dumps(self._public).decode()

    def access_token(self, who: Principal) -> str:
        """A token that says who somebody is and, for staff, what they may do."""
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
        return jwt.encode({"alg": ALGORITHM, "kid": self._kid}, claims, self._key, algorithms=[ALGORITHM])
