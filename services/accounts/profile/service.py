"""Seeing, changing, taking away and erasing one's own account."""

from datetime import UTC, datetime

from reliability import idempotency
from reliability.context import Principal
from reliability.crash_points import crash_point
from reliability.errors import NotFound
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.rate_limit import RESET
from services.accounts.email_change import repository as email_changes
from services.accounts.email_change.service import ask
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Kind, Status
from services.accounts.identity.service import announce, forget
from services.accounts.profile import repository
from services.accounts.profile.errors import StaffAccount
from services.accounts.profile.schemas import ChangeProfile, Export, Profile
from services.accounts.revocation.service import revoke
from services.accounts.session.domain import EndReason
from services.accounts.session.limits import Guard
from services.accounts.session.service import end_sessions

__all__ = ["ProfileService"]

_log = get_logger(__name__)


class ProfileService:
    """Everything here is about whoever asks."""

    def __init__(self, database: Database, guard: Guard) -> None:
        self._database = database
        self._guard = guard

    async def profile(self, who: Principal) -> Profile:
        """The account as it is."""
        async with self._database.connection() as connection:
            return await _view(connection, await accounts.by_id(connection, who.id))

    async def change(self, who: Principal, asked: ChangeProfile) -> Profile:
        """Changes what is given; for another address it asks both sides. Raises `RateLimited`."""
        if asked.email is not None:
            await self._guard.one(RESET, f"email-change:{who.id}")
        async with self._database.transaction("change profile") as connection:
            claim = await idempotency.claim(connection, who.id)
            account = await self._locked(connection, who)
            await repository.change(connection, account.id, asked.name, asked.marketing_consent)
            if asked.email is not None and asked.email.lower() != account.email.lower():
                await ask(connection, account, asked.email)
            if account.kind is Kind.CUSTOMER:
                await announce(connection, [account.id])
            view = await _view(connection, await accounts.by_id(connection, account.id))
            await claim.store(connection, 200, view.model_dump(mode="json"))
        return view

    async def export(self, who: Principal) -> Export:
        """Everything held about whoever asks."""
        async with self._database.connection() as connection:
            view = await _view(connection, await accounts.by_id(connection, who.id))
            held = await repository.held(connection, who.id)
        return Export(exported_at=datetime.now(UTC), profile=view, **held)

    async def erase(self, who: Principal) -> None:
        """Erases a customer and has everybody told; the books keep an id. Raises `StaffAccount`."""
        async with self._database.transaction("erase account") as connection:
            account = await self._locked(connection, who)
            if account.kind is Kind.STAFF:
                raise StaffAccount
            await end_sessions(connection, account.id, EndReason.ERASED)
            await revoke(connection, accounts=[account.id])
            await forget(connection, account)
            await repository.erase(connection, account.id)
            crash_point("erase.not_committed")
        crash_point("erase.not_answered")
        _log.info("account_erased", account=who.id)

    async def _locked(self, connection: Connection, who: Principal) -> Account:
        account = await accounts.lock(connection, who.id, change=True)
        if account is None or account.status is Status.ERASED:
            raise NotFound
        return account


async def _view(connection: Connection, account: Account | None) -> Profile:
    if account is None:
        raise NotFound
    return Profile.of(account, await email_changes.pending(connection, account.id))
