"""Opening accounts, proving addresses, choosing passwords."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from reliability import jobs
from reliability.context import Principal
from reliability.crash_points import crash_point
from reliability.errors import FieldError, ValidationFailed
from reliability.ids import new_id
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.rate_limit import LOGIN, RESET, client_key
from services.accounts.credentials import repository
from services.accounts.credentials.errors import InvalidLink
from services.accounts.credentials.schemas import SignUp
from services.accounts.email_change.service import confirm as confirm_email_change
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Kind, Status
from services.accounts.identity.service import announce
from services.accounts.mail.service import queue_mail, queue_notice
from services.accounts.mail_tokens import repository as tokens
from services.accounts.mail_tokens.domain import Links, MailToken, Purpose
from services.accounts.mail_tokens.service import SEND_LINK, locked, queue_link
from services.accounts.passwords import Passwords
from services.accounts.profile import repository as profiles
from services.accounts.session.domain import EndReason
from services.accounts.session.limits import Guard
from services.accounts.session.service import end_sessions

__all__ = ["FORGOT_PASSWORD", "CredentialService"]

FORGOT_PASSWORD: Final = "forgot_password"  # noqa: S105 - a kind of job
_ATTEMPTS: Final = 200
_RESETS: Final = {Purpose.RESET_PASSWORD, Purpose.INVITATION}
_BY_TOKEN: Final = replace(RESET, name="reset-token", quota=10)
_CHANGE: Final = replace(LOGIN, name="password-change")

_log = get_logger(__name__)


class CredentialService:
    """Whatever is asked about an address, the answer and the work for it do not tell whether we know it."""

    def __init__(
        self, database: Database, passwords: Passwords, guard: Guard, links: Links, *, public_url: str
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._guard = guard
        self._links = links
        self._public_url = public_url

    async def sign_up(self, asked: SignUp, client: str) -> tuple[str, Mapping[str, str]]:
        """Opens an account; its id and the RateLimit fields. Raises `ValidationFailed`, `RateLimited`.

        For an address that is known the id is one that nobody has.
        """
        await self._refuse_weak(asked.password, "/password", asked.email, asked.name)
        limits = await self._guard.signup(client, asked.email)
        hashed = await self._passwords.hash(asked.password)
        account_id, token_id = new_id(), new_id()
        async with self._database.transaction("sign up") as connection:
            outcome = await repository.sign_up(
                connection,
                account_id,
                asked.email,
                asked.name,
                hashed,
                marketing_consent=asked.marketing_consent,
                token_id=token_id,
            )
            if outcome.to_prove:
                payload = {"token_id": token_id, "template": "email_verification"}
                await jobs.enqueue(connection, SEND_LINK, payload, unique_key=token_id, max_attempts=_ATTEMPTS)
            else:
                await self._tell_known(connection, asked.email)
            crash_point("signup.not_committed")
        crash_point("signup.not_answered")
        _log.info("signup", added=outcome.added)
        return account_id, limits

    async def verify_email(self, token: str) -> None:
        """Proves an address, or one side of a change of addresses; done before, it is done. Raises `InvalidLink`."""
        async with self._database.transaction("verify email") as connection:
            account, link = await self._usable(connection, token)
            match link.purpose:
                case Purpose.VERIFY_EMAIL:
                    await self._verify(connection, account, link)
                case Purpose.OLD_EMAIL | Purpose.NEW_EMAIL:
                    await confirm_email_change(connection, account, link)
                case _:
                    raise InvalidLink
            await tokens.use(connection, link.id)

    async def forgot(self, email: str, client: str) -> Mapping[str, str]:
        """Has a link sent to whoever has this address, which the worker finds out; the RateLimit fields."""
        limits = await self._guard.reset(client, email)
        async with self._database.transaction("forgot password") as connection:
            payload = {"request_id": new_id(), "email": email}
            await jobs.enqueue(connection, FORGOT_PASSWORD, payload, max_attempts=_ATTEMPTS)
        return limits

    async def send_reset(self, request_id: str, email: str) -> None:
        """Queues the link when there is such an account; again, it is the same link."""
        async with self._database.transaction("send reset") as connection:
            account = await accounts.by_email(connection, email)
            if account is not None and account.status is Status.ACTIVE:
                await queue_link(
                    connection,
                    account.id,
                    Purpose.RESET_PASSWORD,
                    "password_reset",
                    account.email,
                    token_id=request_id,
                )

    async def reset(self, token: str, password: str, client: str) -> None:
        """Sets a password by a link; every session ends. With the same password again, it is done.

        Raises `ValidationFailed`, `RateLimited`, `InvalidLink`.
        """
        await self._refuse_weak(password, "/password")
        await self._guard.one(_BY_TOKEN, client_key(client))
        async with self._database.connection() as connection:
            link = await self._look(connection, token)
            account = await accounts.by_id(connection, link.account_id)
        if link.purpose not in _RESETS or account is None:
            raise InvalidLink
        if link.used:
            # The answer to the first try was lost, perhaps: whoever repeats it has the password that was set.
            if await self._passwords.verify(account.password_hash, password):
                return
            raise InvalidLink
        hashed = await self._passwords.hash(password)
        async with self._database.transaction("reset password") as connection:
            account, link = await self._usable(connection, token)
            if link.used:
                raise InvalidLink
            await tokens.use(connection, link.id)
            await tokens.void(connection, account.id, Purpose.RESET_PASSWORD, Purpose.VERIFY_EMAIL)
            await self._set(connection, account, hashed, proven=link.email.lower() == account.email.lower())
            crash_point("reset.not_committed")
        crash_point("reset.not_answered")

    async def change(self, who: Principal, current: str, new: str) -> None:
        """Sets another password; every other session ends. Raises `ValidationFailed`, `RateLimited`."""
        await self._refuse_weak(new, "/new_password", who.email, who.name)
        await self._guard.one(_CHANGE, who.id)
        async with self._database.connection() as connection:
            account = await accounts.by_id(connection, who.id)
        stored = account.password_hash if account else None
        if not await self._passwords.verify(stored, current):
            raise ValidationFailed([FieldError("/current_password", "is not your password")])
        hashed = await self._passwords.hash(new)
        async with self._database.transaction("change password") as connection:
            account = await accounts.lock(connection, who.id, change=True)
            if account is None or account.password_hash != stored:
                raise ValidationFailed([FieldError("/current_password", "is not your password any more")])
            await tokens.void(connection, account.id, Purpose.RESET_PASSWORD)
            await self._set(connection, account, hashed, but=who.session)

    async def _set(
        self, connection: Connection, account: Account, hashed: str, *, proven: bool = False, but: str | None = None
    ) -> None:
        await repository.set_password(connection, account.id, hashed, proven=proven)
        if proven and not account.email_verified:
            await profiles.hand_over(connection, account.id)
        await end_sessions(connection, account.id, EndReason.PASSWORD, but=but)
        if account.kind is Kind.CUSTOMER and proven and not account.email_verified:
            await announce(connection, [account.id])
        await queue_notice(connection, account, "password_changed", public_url=self._public_url, at=datetime.now(UTC))

    async def _verify(self, connection: Connection, account: Account, link: MailToken) -> None:
        if link.email.lower() != account.email.lower():
            raise InvalidLink
        if not await repository.verify(connection, account.id, link.password_hash):
            return
        if link.password_hash is not None and link.password_hash != account.password_hash:
            # Somebody else had signed up with this address first; what they were given and left behind is over.
            await profiles.hand_over(connection, account.id)
            await end_sessions(connection, account.id, EndReason.PASSWORD)
        await announce(connection, [account.id])

    async def _tell_known(self, connection: Connection, email: str) -> None:
        account = await accounts.by_email(connection, email)
        if account is not None and account.status is Status.ACTIVE:
            link = f"{self._public_url}/account/forgot-password"
            await queue_mail(connection, account, "account_exists", {"link": link}, account.email)

    async def _look(self, connection: Connection, token: str) -> MailToken:
        token_id = self._links.read(token)
        link = await tokens.find(connection, token_id) if token_id else None
        if link is None or link.expired:
            raise InvalidLink
        return link

    async def _usable(self, connection: Connection, token: str) -> tuple[Account, MailToken]:
        found = await locked(connection, await self._look(connection, token))
        if found is None or found[1].expired:
            raise InvalidLink
        return found

    async def _refuse_weak(self, password: str, pointer: str, *about: str) -> None:
        if weakness := await self._passwords.weakness(password, about):
            raise ValidationFailed([FieldError(pointer, weakness)])
