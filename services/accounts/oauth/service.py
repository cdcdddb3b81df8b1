"""Sending browsers to a provider, and signing in whom it vouches for."""

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Final

import orjson

from reliability.crash_points import crash_point
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.rate_limit import LOGIN, client_key
from services.accounts.fields import email_of
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Kind, Status
from services.accounts.identity.service import announce
from services.accounts.keys.service import SigningKeys
from services.accounts.mail_tokens import repository as links
from services.accounts.mail_tokens.domain import Purpose
from services.accounts.oauth import repository
from services.accounts.oauth.domain import LIFETIME, Attempt, Identity
from services.accounts.oauth.errors import EmailNotVerified, NoSuchProvider, SignInFailed, SignInRefused
from services.accounts.oauth.provider import Provider
from services.accounts.oauth.schemas import CallbackQuery
from services.accounts.profile import repository as profiles
from services.accounts.sealing import Sealer
from services.accounts.session.domain import Device, EndReason
from services.accounts.session.errors import TotpRequired
from services.accounts.session.limits import Guard
from services.accounts.session.service import Session, end_sessions, open_session

__all__ = ["OauthService"]

_USE: Final = "oauth-attempt"
_POLICY: Final = replace(LOGIN, name="oauth", quota=30)
# RFC 7636 asks for 43 characters of a verifier or more: 32 bytes.
_BYTES: Final = 32

_log = get_logger(__name__)


class OauthService:
    """The state, the nonce and the verifier of an attempt travel sealed in the browser's own cookie, nowhere else."""

    def __init__(
        self,
        database: Database,
        keys: SigningKeys,
        guard: Guard,
        sealer: Sealer,
        providers: Mapping[str, Provider],
        *,
        public_url: str,
    ) -> None:
        self._database = database
        self._keys = keys
        self._guard = guard
        self._sealer = sealer
        self._providers = providers
        self._public_url = public_url

    async def start(self, name: str, return_to: str, client: str) -> tuple[str, str]:
        """Where to send the browser, and the cookie it comes back with.

        Raises `NoSuchProvider`, `RateLimited`, `Unavailable`.
        """
        provider = self._provider(name)
        await self._guard.one(_POLICY, client_key(client))
        state, nonce, verifier = (secrets.token_urlsafe(_BYTES) for _ in range(3))
        attempt = Attempt(name, state, nonce, verifier, return_to, int(time.time()) + LIFETIME)
        url = await provider.authorization_url(attempt, self._redirect_uri(name))
        return url, self._sealer.seal_text(_USE, orjson.dumps(asdict(attempt)))

    async def finish(self, name: str, query: CallbackQuery, cookie: str | None, device: Device) -> tuple[Session, str]:
        """Signs in whom the provider vouches for; the session and where to go.

        Raises `NoSuchProvider`, `RateLimited`, `SignInFailed`, `EmailNotVerified`, `SignInRefused`, `TotpRequired`,
        `Unavailable`.
        """
        provider = self._provider(name)
        await self._guard.one(_POLICY, client_key(device.client))
        attempt = self._attempt(cookie)
        # Another site may send a browser here with an answer of its own: the cookie says whether we had asked.
        if attempt is None or attempt.provider != name or not hmac.compare_digest(attempt.state, query.state):
            raise SignInFailed
        if query.code is None or query.error is not None or query.iss not in {None, provider.issuer}:
            raise SignInFailed
        identity = await provider.identity(query.code, attempt, self._redirect_uri(name))
        async with self._database.transaction("sign in by provider") as connection:
            account = await self._account(connection, identity)
            session = await open_session(connection, account, device, self._keys)
            crash_point("oauth.not_committed")
        _log.info("login", account=account.id, role=account.role, provider=name)
        return session, attempt.return_to

    async def _account(self, connection: Connection, identity: Identity) -> Account:
        account_id = await repository.find(connection, identity)
        if account_id is None:
            await repository.link(connection, identity, await self._to_link(connection, identity))
            account_id = await repository.find(connection, identity)
        account = await accounts.lock(connection, account_id) if account_id is not None else None
        if account is None or account.kind is Kind.STAFF or account.status is not Status.ACTIVE:
            raise SignInRefused
        if account.totp_secret is not None:
            raise TotpRequired
        return account

    async def _to_link(self, connection: Connection, identity: Identity) -> str:
        """The account of a verified address: the customer's own, or a new one."""
        email = email_of(identity.email or "")
        if email is None or not identity.email_verified:
            raise EmailNotVerified
        if added := await repository.add_customer(connection, email, identity.name):
            await announce(connection, [added])
            return added
        known = await accounts.by_email(connection, email)
        account = await accounts.lock(connection, known.id, change=True) if known is not None else None
        if account is None or account.email.lower() != email.lower():
            raise SignInFailed  # it was erased or moved while we looked
        if account.kind is Kind.STAFF or account.status is not Status.ACTIVE:
            raise SignInRefused
        if not account.email_verified:
            # Somebody signed up with this address and never proved it: what they chose and were given is over.
            await repository.take_over(connection, account.id)
            await profiles.hand_over(connection, account.id)
            await links.void(connection, account.id, Purpose.VERIFY_EMAIL, Purpose.RESET_PASSWORD)
            await end_sessions(connection, account.id, EndReason.PASSWORD)
            await announce(connection, [account.id])
        return account.id

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise NoSuchProvider
        return provider

    def _redirect_uri(self, name: str) -> str:
        return f"{self._public_url}/api/auth/oauth/{name}/callback"

    def _attempt(self, cookie: str | None) -> Attempt | None:
        plain = self._sealer.open_text(_USE, cookie) if cookie else None
        attempt = Attempt(**orjson.loads(plain)) if plain is not None else None
        return attempt if attempt is not None and attempt.expires_at > time.time() else None
