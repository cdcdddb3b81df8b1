"""Signing in by password."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from reliability.context import Principal
from reliability.logging import get_logger
from reliability.postgres import Database
from reliability.rate_limit import LOGIN, RateLimiter
from services.accounts.identity import repository
from services.accounts.identity.domain import Account, Status, permissions_of
from services.accounts.keys.service import SigningKeys
from services.accounts.passwords import Passwords
from services.accounts.session.errors import InvalidCredentials

__all__ = ["Session", "SessionService"]

PER_CLIENT: Final = replace(LOGIN, name="login-client")
PER_ACCOUNT: Final = replace(LOGIN, name="login-account")

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has just signed in. `limits` are the RateLimit fields of the answer."""

    who: Principal
    access_token: str
    expires_in: int
    limits: Mapping[str, str]


class SessionService:
    """Proves who somebody is and vouches for it with a token."""

    def __init__(self, database: Database, passwords: Passwords, keys: SigningKeys, limiter: RateLimiter) -> None:
        self._database = database
        self._passwords = passwords
        self._keys = keys
        self._limiter = limiter

    async def login(self, email: str, password: str, client: str) -> Session:
        """Signs in; `client` is the address of whoever tries.

        Raises `RateLimited` before any password is looked at, and `InvalidCredentials` after the same work
        whether or not the address is known.
        """
        email = email.strip()
        # The address is hashed: Redis need not know who our customers are.
        account_key = hashlib.sha256(email.lower().encode()).hexdigest()
        limits = await self._limiter.check([(PER_CLIENT, client), (PER_ACCOUNT, account_key)])
        async with self._database.connection() as connection:
            account = await repository.by_email(connection, email)
        matches = await self._passwords.verify(account.password_hash if account else None, password)
        if account is None or not matches or account.status is not Status.ACTIVE:
            _log.info("login_refused")
            raise InvalidCredentials(headers=limits)
        who = _principal(account)
        _log.info("login", account=account.id, role=account.role)
        return Session(who, self._keys.access_token(who), self._keys.lifetime, limits)


def _principal(account: Account) -> Principal:
    return Principal(
        id=account.id,
        kind=account.kind,
        email=account.email,
        name=account.name,
        role=account.role,
        permissions=permissions_of(account.role),
    )
