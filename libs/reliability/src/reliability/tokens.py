"""Verifies access tokens with the issuer's public keys; no call to the issuer per request.

They are JSON Web Tokens and come as bearer tokens (RFC 6750) or in the session cookie.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from reliability.context import Principal
from reliability.errors import Problem, Unauthenticated

__all__ = ["ACCESS_COOKIE", "ALGORITHM", "AUDIENCE", "ISSUER", "Revoked", "TokenVerifier", "signed"]

ISSUER = "holdfast"
"""`iss` of an access token."""
AUDIENCE = "holdfast"
"""`aud` of an access token."""
ALGORITHM = "Ed25519"
"""The only one that is accepted, whatever a token says (RFC 8725, 3.1; RFC 9864)."""
ACCESS_COOKIE = "holdfast_access"
"""The cookie a browser brings its access token in."""
_REFETCH_SECONDS = 10.0
_LEEWAY = 5


def signed(token: str, keys: KeySet, algorithms: Iterable[str]) -> jwt.Token:
    """The token, when one of `keys` has signed it. Raises `ValueError` for everything else.

    What stands in a header is up to whoever sends it, and the library has errors of other kinds for some of it.
    """
    try:
        return jwt.decode(token, keys, algorithms=list(algorithms))
    except Exception as error:
        raise ValueError("not a token that one of these keys has signed") from error


class Revoked(Protocol):
    """What knows which tokens were taken back before their end: `revocation.Revocations`."""

    async def cover(self, claims: Mapping[str, Any]) -> bool:
        """Whether the token with these claims was."""


class TokenVerifier:
    """Keeps the issuer's key set and turns a token into a `Principal`."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[str]],
        now: Callable[[], float] = time.time,
        *,
        revoked: Revoked | None = None,
    ) -> None:
        self._fetch = fetch
        self._now = now
        self._revoked = revoked
        self._keys: KeySet | None = None
        self._fetched_at = 0.0

    async def verify(self, token: str) -> Principal:
        """Who the token speaks for. Raises `Unauthenticated` for anything but a valid, current token."""
        try:
            try:
                claims = self._claims(token, await self._key_set(refresh=False))
            except (JoseError, ValueError):
                # Perhaps signed with a key that is newer than our copy.
                claims = self._claims(token, await self._key_set(refresh=True))
        except (JoseError, ValueError) as error:
            message = "The access token is not valid; sign in again."
            raise Unauthenticated(message, headers={"WWW-Authenticate": "Bearer"}) from error
        if self._revoked is not None and await self._revoked.cover(claims):
            message = "This session has ended; sign in again."
            raise Unauthenticated(message, headers={"WWW-Authenticate": "Bearer"})
        return Principal(
            id=claims["sub"],
            kind=claims.get("kind", "customer"),
            email=claims.get("email", ""),
            name=claims.get("name", ""),
            role=claims.get("role", ""),
            permissions=frozenset(claims.get("permissions", ())),
            session=claims.get("sid", ""),
        )

    def _claims(self, token: str, keys: KeySet) -> dict[str, Any]:
        decoded = signed(token, keys, [ALGORITHM])
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            sub={"essential": True},
            exp={"essential": True},
        )
        registry.validate(decoded.claims)
        return decoded.claims

    async def _key_set(self, *, refresh: bool) -> KeySet:
        if self._keys is None:
            self._keys = await self._fetched()
        elif refresh and abs(self._now() - self._fetched_at) > _REFETCH_SECONDS:
            with contextlib.suppress(Problem):  # the issuer is away: the keys we have decide
                self._keys = await self._fetched()
        return self._keys

    async def _fetched(self) -> KeySet:
        # Noted before the call: a stream of bad tokens must not become a stream of calls to an issuer that is away.
        self._fetched_at = self._now()
        return KeySet.import_key_set(orjson.loads(await self._fetch()))
