"""Signing in by password, staying signed in, and signing out."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from opentelemetry import metrics

from reliability.context import Principal
from reliability.crash_points import crash_point
from reliability.ids import is_id
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.rate_limit import REFRESH, client_key
from services.accounts.fields import known_as
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Status
from services.accounts.keys.service import SigningKeys
from services.accounts.mail.service import queue_notice
from services.accounts.passwords import Passwords
from services.accounts.revocation.service import revoke
from services.accounts.second_factor.factor import SecondFactor
from services.accounts.session import repository
from services.accounts.session.domain import (
    Device,
    EndReason,
    Presented,
    Rotation,
    StoredSession,
    hash_of,
    judge,
    new_token,
    successor,
)
from services.accounts.session.errors import InvalidCredentials, NoSuchSession, SessionEnded, TotpRequired
from services.accounts.session.limits import Guard

__all__ = ["Session", "SessionService", "end_sessions", "open_session", "principal_of"]

_SECRET_BYTES: Final = 32
_KEPT_DAYS: Final = 30

_log = get_logger(__name__)
_reused = metrics.get_meter("holdfast").create_counter(
    "holdfast.sessions.ended_by_reuse", description="Sessions that ended because an old refresh token came again"
)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in. `limits` are the RateLimit fields of the answer."""

    who: Principal
    access_token: str
    refresh_token: str
    expires_in: int
    limits: Mapping[str, str] = field(default_factory=dict)


def principal_of(account: Account, session_id: str) -> Principal:
    """Whom the tokens of a session speak for."""
    return Principal(
        id=account.id,
        kind=account.kind,
        email=account.email,
        name=account.name,
        role=account.role,
        permissions=frozenset(account.permissions),
        session=session_id,
    )


async def open_session(connection: Connection, account: Account, device: Device, keys: SigningKeys) -> Session:
    """Begins a session in the caller's transaction, which holds the account as it is."""
    token = new_token()
    session_id = await repository.add(connection, account.id, device, secrets.token_bytes(_SECRET_BYTES))
    await repository.add_token(connection, session_id, 1, hash_of(token))
    who = principal_of(account, session_id)
    return Session(who, keys.access_token(who), token, keys.lifetime)


async def end_sessions(
    connection: Connection, account_id: str, reason: EndReason, *, but: str | None = None
) -> Sequence[str]:
    """Ends every session of an account except `but`, and takes their tokens back; their ids."""
    ended = await repository.end_all(connection, account_id, reason, but=but or None)
    await revoke(connection, sessions=ended)
    return ended


class SessionService:
    """Proves who somebody is and vouches for it with tokens."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        keys: SigningKeys,
        guard: Guard,
        factor: SecondFactor,
        *,
        public_url: str,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._keys = keys
        self._guard = guard
        self._factor = factor
        self._public_url = public_url

    async def login(
        self, email: str, password: str, device: Device, *, code: str | None = None, recovery: str | None = None
    ) -> Session:
        """Signs in; whoever has a second factor gives its `code`, or a `recovery` code.

        Raises `RateLimited` before any password is looked at, `InvalidCredentials` after the same work whether or
        not the address is known, and `TotpRequired`.
        """
        email = known_as(email)
        limits = await self._guard.login(device.client, email)
        async with self._database.connection() as connection:
            account = await accounts.by_email(connection, email)
        matches = await self._passwords.verify(account.password_hash if account else None, password)
        if account is None or not matches or account.status is not Status.ACTIVE:
            _log.info("login_refused")
            raise InvalidCredentials(headers=limits)
        if account.totp_secret is not None and code is None and recovery is None:
            raise TotpRequired(headers=limits)
        async with self._database.transaction("login") as connection:
            now = await accounts.lock(connection, account.id)
            if now is None or now.status is not Status.ACTIVE or now.password_hash != account.password_hash:
                raise InvalidCredentials(headers=limits)  # it was changed while we were computing
            if now.totp_secret is not None and not await self._factor.opens(connection, now, code, recovery):
                raise InvalidCredentials(headers=limits)
            session = await open_session(connection, now, device, self._keys)
        crash_point("login.not_answered")
        _log.info("login", account=account.id, role=account.role)
        return Session(session.who, session.access_token, session.refresh_token, session.expires_in, limits)

    async def refresh(self, token: str, device: Device) -> Session:
        """Exchanges a refresh token for the next one and a new access token.

        The second use of an old one ends the session, and its owner is told. Raises `RateLimited`, `SessionEnded`.
        """
        limits = await self._guard.one(REFRESH, client_key(device.client))
        async with self._database.transaction("refresh") as connection:
            presented = await repository.present(connection, hash_of(token))
            session = None
            if presented is not None and presented.account.status is Status.ACTIVE:
                session = await self._exchange(connection, presented, token, device)
            crash_point("refresh.not_committed")
        crash_point("refresh.not_answered")
        if session is None:
            raise SessionEnded(headers=limits)
        return Session(session.who, session.access_token, session.refresh_token, session.expires_in, limits)

    async def logout(self, who: Principal) -> None:
        """Ends the session that a token belongs to."""
        await self._end(who, who.session, EndReason.LOGOUT)

    async def sessions(self, who: Principal) -> list[StoredSession]:
        """Where somebody is signed in, the newest first."""
        async with self._database.connection() as connection:
            return await repository.live(connection, who.id)

    async def end(self, who: Principal, session_id: str) -> None:
        """Signs another device out. Raises `NoSuchSession`."""
        if not is_id(session_id) or not await self._end(who, session_id, EndReason.REVOKED):
            raise NoSuchSession

    async def prune(self) -> int:
        """Forgets sessions that ran out a month ago."""
        async with self._database.transaction("prune sessions") as connection:
            return await self.purge(connection)

    async def purge(self, connection: Connection) -> int:
        """Forgets them in the caller's transaction; how many they were."""
        return await repository.prune(connection, _KEPT_DAYS)

    async def _end(self, who: Principal, session_id: str, reason: EndReason) -> bool:
        async with self._database.transaction("end session") as connection:
            if not session_id or not await repository.end(connection, session_id, who.id, reason):
                return False
            await revoke(connection, sessions=[session_id])
            return True

    async def _exchange(
        self, connection: Connection, presented: Presented, token: str, device: Device
    ) -> Session | None:
        session_id, account = presented.session.id, presented.account
        verdict = judge(presented, device)
        match verdict:
            case Rotation.OVER:
                return None
            case Rotation.REUSE:
                await self._end_reused(connection, presented)
                return None
            case Rotation.ROTATE:
                following = successor(token, presented.secret)
                generation = await repository.rotate(connection, session_id, device)
                await repository.add_token(connection, session_id, generation, hash_of(following))
            case Rotation.REPEAT:
                following = successor(token, presented.secret)
            case _:
                assert_never(verdict)
        who = principal_of(account, session_id)
        return Session(who, self._keys.access_token(who), following, self._keys.lifetime)

    async def _end_reused(self, connection: Connection, presented: Presented) -> None:
        session, account = presented.session, presented.account
        await repository.end(connection, session.id, account.id, EndReason.REUSE)
        await revoke(connection, sessions=[session.id])
        await queue_notice(
            connection,
            account,
            "session_ended",
            public_url=self._public_url,
            at=presented.now,
            device=session.device.name or None,
        )
        _reused.add(1)
        _log.warning("refresh_token_reused", session=session.id, account=account.id)
