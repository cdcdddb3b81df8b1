"""Asking for another address, and confirming it from both sides."""

from datetime import UTC, datetime

from reliability.ids import new_id
from reliability.postgres import Connection
from services.accounts.email_change import repository
from services.accounts.email_change.errors import EmailTaken
from services.accounts.identity.domain import Account, Kind
from services.accounts.identity.service import announce
from services.accounts.mail.service import queue_mail
from services.accounts.mail_tokens import repository as tokens
from services.accounts.mail_tokens.domain import MailToken, Purpose
from services.accounts.mail_tokens.service import queue_link

__all__ = ["ask", "confirm"]


async def ask(connection: Connection, account: Account, new_email: str) -> None:
    """Begins a change in the caller's transaction, which has the account locked: each side gets a link.

    Whether the new address is somebody else's is not told here: whoever asks need not own it.
    """
    change_id = new_id()
    await repository.ask(connection, change_id, account.id, account.email, new_email)
    await queue_link(connection, account.id, Purpose.NEW_EMAIL, "email_change", new_email, change_id=change_id)
    await queue_link(
        connection, account.id, Purpose.OLD_EMAIL, "email_change_approval", account.email, change_id=change_id
    )


async def confirm(connection: Connection, account: Account, link: MailToken) -> None:
    """One side agrees; when both have, the account moves, and the old address is told. Raises `EmailTaken`."""
    assert link.change_id is not None, "held by a CHECK"
    found = await repository.confirm(connection, link.change_id, old=link.purpose is Purpose.OLD_EMAIL)
    if found is None or not found[1]:
        return
    new_email = found[0]
    if not await repository.apply(connection, link.change_id, account.id, new_email):
        raise EmailTaken
    await tokens.void(connection, account.id, Purpose.RESET_PASSWORD)  # they went to the old address
    said = {"new_email": new_email, "happened_at": datetime.now(UTC).isoformat()}
    await queue_mail(connection, account, "email_changed", said, account.email)
    if account.kind is Kind.CUSTOMER:
        await announce(connection, [account.id])
