"""Enrolling an authenticator, proving it, and taking it away."""

from dataclasses import replace
from typing import Final

from reliability import audit
from reliability.context import Principal
from reliability.errors import FieldError, NotFound, ValidationFailed
from reliability.postgres import Connection, Database
from reliability.rate_limit import LOGIN
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Kind, Status
from services.accounts.passwords import Passwords
from services.accounts.second_factor import repository
from services.accounts.second_factor.errors import SecondFactorExists, SecondFactorMissing
from services.accounts.second_factor.factor import SecondFactor
from services.accounts.session.domain import EndReason
from services.accounts.session.limits import Guard
from services.accounts.session.service import end_sessions

__all__ = ["SecondFactorService"]

_POLICY: Final = replace(LOGIN, name="second-factor")


class SecondFactorService:
    """For whoever is signed in."""

    def __init__(self, database: Database, passwords: Passwords, guard: Guard, factor: SecondFactor) -> None:
        self._database = database
        self._passwords = passwords
        self._guard = guard
        self._factor = factor

    async def enrol(self, who: Principal, password: str) -> tuple[str, str]:
        """A secret and its address, which count for nothing yet.

        Raises `RateLimited`, `ValidationFailed` for a wrong password, `SecondFactorExists`.
        """
        await self._guard.one(_POLICY, who.id)
        async with self._database.connection() as connection:
            account = await accounts.by_id(connection, who.id)
        if not await self._passwords.verify(account.password_hash if account else None, password):
            raise ValidationFailed([FieldError("/password", "is not your password")])
        sealed, secret, uri = self._factor.totp.propose(who.email)
        async with self._database.transaction("enrol second factor") as connection:
            account = await _locked(connection, who)
            if account.totp_secret is not None:
                raise SecondFactorExists
            await repository.propose(connection, who.id, sealed)
        return secret, uri

    async def confirm(self, who: Principal, code: str) -> list[str]:
        """From now on signing in takes a code; every other session ends. The recovery codes, shown this once.

        Raises `RateLimited`, `SecondFactorMissing`, `ValidationFailed` for a wrong code.
        """
        await self._guard.one(_POLICY, who.id)
        codes = self._factor.codes.propose()
        async with self._database.transaction("confirm second factor") as connection:
            await _locked(connection, who)
            sealed = await repository.proposed(connection, who.id)
            if sealed is None:
                raise SecondFactorMissing
            step = self._factor.totp.step_of(sealed, code)
            if step is None:
                raise ValidationFailed([FieldError("/totp", "is not the code your authenticator shows now")])
            await repository.accept(connection, who.id, step, [self._factor.codes.mac(who.id, each) for each in codes])
            await end_sessions(connection, who.id, EndReason.REVOKED, but=who.session)
            await _audited(connection, who, "staff.second_factor_enrolled")
        return codes

    async def remove(self, who: Principal, code: str | None, recovery: str | None) -> None:
        """From now on the password is enough. Raises `RateLimited`, `SecondFactorMissing`, `ValidationFailed`."""
        await self._guard.one(_POLICY, who.id)
        async with self._database.transaction("remove second factor") as connection:
            account = await _locked(connection, who)
            if account.totp_secret is None:
                raise SecondFactorMissing
            if not await self._factor.opens(connection, account, code, recovery):
                pointer = "/totp" if recovery is None else "/recovery_code"
                raise ValidationFailed([FieldError(pointer, "does not open, or was used")])
            await repository.remove(connection, who.id)
            await _audited(connection, who, "staff.second_factor_removed")


async def _locked(connection: Connection, who: Principal) -> Account:
    account = await accounts.lock(connection, who.id, change=True)
    if account is None or account.status is not Status.ACTIVE:
        raise NotFound
    return account


async def _audited(connection: Connection, who: Principal, action: str) -> None:
    if who.kind == Kind.STAFF:
        await audit.record(connection, who.id, action, who.id)
