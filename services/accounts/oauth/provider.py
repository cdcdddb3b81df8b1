"""Talking to a provider: where it is, where to send the browser, and what its code is worth."""

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from reliability.errors import Unavailable
from reliability.http import HttpClient
from reliability.logging import get_logger
from reliability.tokens import signed
from services.accounts.oauth.domain import Attempt, Identity
from services.accounts.oauth.errors import SignInFailed
from services.accounts.oauth.schemas import OauthProvider

__all__ = ["Provider"]

# Public keys only: whoever signs with our own secret has it from us.
_ALGORITHMS: Final = ["RS256", "PS256", "ES256", "Ed25519", "EdDSA"]
_KEPT_SECONDS: Final = 3600.0
_LEEWAY: Final = 30
_LONGEST_NAME: Final = 100
_NAMELESS: Final = "Customer"

_log = get_logger(__name__)


class Provider:
    """One issuer. What it publishes about itself is read when it is first needed, and again every hour."""

    def __init__(self, name: str, settings: OauthProvider, http: HttpClient) -> None:
        self.name = name
        self.issuer = settings.issuer
        self._settings = settings
        self._http = http
        self._metadata: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._read_at = 0.0

    async def authorization_url(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where to send the browser (RFC 7636 for the challenge). Raises `Unavailable`."""
        metadata = await self._described()
        url: str = prepare_grant_uri(
            metadata["authorization_endpoint"],
            self._settings.client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=self._settings.scopes,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url

    async def identity(self, code: str, attempt: Attempt, redirect_uri: str) -> Identity:
        """Who the code is of; a code works once. Raises `SignInFailed`, `Unavailable`."""
        tokens = await self._exchange(code, attempt.verifier, redirect_uri)
        claims = await self._claims(str(tokens.get("id_token", "")), attempt.nonce, tokens.get("access_token"))
        email, name = claims.get("email"), claims.get("name")
        return Identity(
            provider=self.name,
            subject=str(claims["sub"]),
            email=email if isinstance(email, str) else None,
            email_verified=claims.get("email_verified") is True,
            name=_printable(name) if isinstance(name, str) else _NAMELESS,
        )

    async def _exchange(self, code: str, verifier: str, redirect_uri: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        metadata, secret = await self._described(), self._settings.client_secret
        options: dict[str, Any] = {}
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret is not None and "client_secret_basic" in methods:
            options["auth"] = (self._settings.client_id, secret.get_secret_value())
        else:
            form["client_id"] = self._settings.client_id
            if secret is not None:
                form["client_secret"] = secret.get_secret_value()
        answer = await self._http.request("POST", metadata["token_endpoint"], data=form, **options)
        if answer.status_code >= 500:
            raise self._broken("its token endpoint failed")
        tokens = _object(answer.content)
        if not answer.is_success or tokens is None:
            _log.info("sign_in_refused_by_provider", provider=self.name, status=answer.status_code)
            raise SignInFailed
        return tokens

    async def _claims(self, token: str, nonce: str, access_token: object) -> Mapping[str, Any]:
        try:
            try:
                decoded = signed(token, await self._key_set(), _ALGORITHMS)
            except (JoseError, ValueError):
                # Perhaps signed with a key that is newer than our copy.
                decoded = signed(token, await self._key_set(refresh=True), _ALGORITHMS)
            claims: Mapping[str, Any] = self._validated(decoded, nonce, access_token)
        except (JoseError, ValueError) as error:
            _log.warning("id_token_refused", provider=self.name, error=type(error).__name__)
            raise SignInFailed from error
        return claims

    def _validated(self, token: jwt.Token, nonce: str, access_token: object) -> Mapping[str, Any]:
        expected = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
            "sub": {"essential": True},
        }
        given = {"nonce": nonce, "client_id": self._settings.client_id, "access_token": access_token}
        claims: Any = CodeIDToken(token.claims, token.header, expected, given)
        claims.validate(leeway=_LEEWAY)
        return token.claims

    async def _described(self) -> Mapping[str, Any]:
        if self._metadata and time.monotonic() - self._read_at < _KEPT_SECONDS:
            return self._metadata
        found = await self._read(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        # Whoever answers there must be who we trust (OpenID Connect Discovery 1.0, section 4.3).
        if found.get("issuer") != self.issuer:
            raise self._broken("it says to be another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not str(found.get(name, "")).startswith(("https://", self.issuer)):
                raise self._broken(f"its {name} is not where we would send a secret")
        self._metadata, self._keys, self._read_at = found, None, time.monotonic()
        return found

    async def _key_set(self, *, refresh: bool = False) -> KeySet:
        if self._keys is None or refresh:
            metadata = await self._described()
            self._keys = KeySet.import_key_set(await self._read(metadata["jwks_uri"]))  # type: ignore[arg-type]
        return self._keys

    async def _read(self, url: str) -> dict[str, Any]:
        answer = await self._http.request("GET", url)
        found = _object(answer.content) if answer.is_success else None
        if found is None:
            raise self._broken(f"it answered {answer.status_code} where it describes itself")
        return found

    def _broken(self, why: str) -> Unavailable:
        _log.warning("provider_unusable", provider=self.name, why=why)
        return Unavailable(f"Signing in with {self.name} does not work right now; try again in a moment.")


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _printable(name: str) -> str:
    return "".join(c for c in name if c.isprintable()).strip()[:_LONGEST_NAME] or _NAMELESS
