"""Tokens of machines: an outside scheduler with a key of its own, or a Kubernetes service account.

There is no shared secret. Who may come is a list of issuers, each with its public keys; a token is good for minutes,
for the scopes it names, and once for each of them. What was used is a row in the database of the service that was
called, so that it stays used when Redis is away. They are JSON Web Tokens, sent as bearer tokens (RFC 6750).
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey

from reliability.context import Principal
from reliability.errors import PermissionDenied, Unauthenticated
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.tokens import signed

if TYPE_CHECKING:
    from reliability.postgres import Database

__all__ = ["LIFETIME", "MACHINE_AUDIENCE", "MachineVerifier", "TokenUsed", "TrustedIssuer", "mint"]

MACHINE_AUDIENCE: Final = "holdfast-machines"
"""The audience a token has to name."""
LIFETIME: Final = 300
"""Seconds a token of ours is good for."""
# Public keys only: with a shared secret among them, whoever may read the keys could sign.
_ALGORITHMS: Final = ["Ed25519", "EdDSA", "ES256", "RS256"]
_LEEWAY: Final = 5
_LONGEST_ID: Final = 200
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_log = get_logger(__name__)

# The expired ones go with whoever comes next: there are a few a minute.
_USE = """
WITH forgotten AS (DELETE FROM machine_tokens WHERE expires_at < now() - interval '1 minute')
INSERT INTO machine_tokens (issuer, token_id, scope, expires_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING token_id
"""


class TokenUsed(Unauthenticated):
    """A token that was good once."""

    code, title = "token_used", "This token has been used; present a new one"


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """Whose tokens are accepted.

    `jwks_file` holds its public keys (RFC 7517); it is read again when it changes. A token says its scopes itself
    (`scope`, RFC 8693, section 4.2), unless `subjects` says them: Kubernetes signs who a service account is and
    nothing of what it may do. Its shortest tokens live ten minutes, hence `max_seconds`.
    """

    issuer: str
    jwks_file: Path
    subjects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_seconds: int = LIFETIME

    def scopes(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """What the token is good for."""
        if self.subjects:
            return frozenset(self.subjects.get(claims["sub"], ()))
        said = claims.get("scope")
        return frozenset(said.split()) if isinstance(said, str) else frozenset()


class MachineVerifier:
    """Lets the machines of trusted issuers in, each token once for each scope."""

    def __init__(
        self, issuers: tuple[TrustedIssuer, ...], database: "Database", now: Callable[[], float] = time.time
    ) -> None:
        self._issuers = issuers
        self._database = database
        self._now = now
        self._keys: dict[Path, tuple[tuple[int, int], KeySet]] = {}

    async def admit(self, token: str, scope: str) -> Principal:
        """Who asks, when the token is good for `scope`; then it is used.

        Raises `Unauthenticated`, `PermissionDenied` when it names other scopes, and `TokenUsed`.
        """
        issuer, claims = self._verified(token)
        scopes = issuer.scopes(claims)
        if scope not in scopes:
            message = f"This needs a token with the scope {scope!r}."
            raise PermissionDenied(message)
        await self._use(issuer.issuer, claims, scope)
        return Principal(id=claims["sub"], kind="machine", permissions=scopes)

    async def _use(self, issuer: str, claims: Mapping[str, Any], scope: str) -> None:
        ends = datetime.fromtimestamp(claims["exp"] + _LEEWAY, UTC)
        async with self._database.transaction() as connection:
            fresh = await connection.fetchval(_USE, issuer, claims["jti"], scope, ends)
        if fresh is None:
            raise TokenUsed(headers=_CHALLENGE)

    def _verified(self, token: str) -> tuple[TrustedIssuer, dict[str, Any]]:
        for issuer in self._issuers:  # a handful: cheaper than believing what the token says of itself
            with contextlib.suppress(JoseError, ValueError):
                return issuer, self._claims(token, issuer)
        message = "The machine token is not valid."
        raise Unauthenticated(message, headers=_CHALLENGE)

    def _claims(self, token: str, issuer: TrustedIssuer) -> dict[str, Any]:
        claims = signed(token, self._key_set(issuer.jwks_file), _ALGORITHMS).claims
        jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": issuer.issuer},
            aud={"essential": True, "value": MACHINE_AUDIENCE},
            sub={"essential": True},
            iat={"essential": True},
            exp={"essential": True},
            jti={"essential": True},
        ).validate(claims)
        if claims["exp"] - claims["iat"] > issuer.max_seconds:
            raise ValueError("a token that lives too long")
        if not isinstance(claims["jti"], str) or len(claims["jti"]) > _LONGEST_ID or "\0" in claims["jti"]:
            raise ValueError("a token whose id cannot be kept")
        return claims

    def _key_set(self, path: Path) -> KeySet:
        try:
            found = path.stat()
        except OSError as error:
            _log.error("machine_keys_unreadable", path=str(path), error=error.strerror)
            raise ValueError("an issuer without keys") from None
        state = (found.st_mtime_ns, found.st_ino)
        known = self._keys.get(path)
        if known is None or known[0] != state:
            known = state, KeySet.import_key_set(orjson.loads(path.read_bytes()))
            self._keys[path] = known
        return known[1]


def mint(
    key: OKPKey,
    *,
    issuer: str,
    subject: str,
    scopes: tuple[str, ...],
    now: float | None = None,
    lifetime: int = LIFETIME,
) -> str:
    """A token for whoever holds the issuer's private key, good for `lifetime` seconds from `now`, an epoch's second."""
    issued = int(time.time() if now is None else now)
    claims = {
        "iss": issuer,
        "aud": MACHINE_AUDIENCE,
        "sub": subject,
        "iat": issued,
        "exp": issued + lifetime,
        "jti": new_id(),
        "scope": " ".join(scopes),
    }
    return jwt.encode({"alg": "Ed25519", "kid": key.thumbprint()}, claims, key, algorithms=["Ed25519"])
