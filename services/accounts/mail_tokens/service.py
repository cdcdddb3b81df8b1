"""Sending links, and finding out what one stands for."""

from typing import Final

from reliability import jobs
from reliability.ids import new_id
from reliability.postgres import Connection, Database
from services.accounts.identity import repository as accounts
from services.accounts.identity.domain import Account, Status
from services.accounts.mail.jobs import Post
from services.accounts.mail_tokens import repository
from services.accounts.mail_tokens.domain import Links, MailToken, Purpose

__all__ = ["SEND_LINK", "LinkService", "locked", "queue_link"]

SEND_LINK: Final = "send_link"
_ATTEMPTS: Final = 200
_KEPT_DAYS: Final = 7


async def queue_link(
    connection: Connection,
    account_id: str,
    purpose: Purpose,
    template: str,
    to: str,
    *,
    password_hash: str | None = None,
    change_id: str | None = None,
    token_id: str | None = None,
) -> None:
    """Notes a link and queues its mail, in the caller's transaction."""
    token_id = token_id or new_id()
    await repository.add(
        connection, token_id, account_id, purpose, to, password_hash=password_hash, change_id=change_id
    )
    payload = {"token_id": token_id, "template": template}
    await jobs.enqueue(connection, SEND_LINK, payload, unique_key=token_id, max_attempts=_ATTEMPTS)


async def locked(connection: Connection, token: MailToken | None) -> tuple[Account, MailToken] | None:
    """The account of a link and the link, both as they stay until the transaction ends; None for a dead one."""
    if token is None:
        return None
    account = await accounts.lock(connection, token.account_id, change=True)
    current = await repository.lock(connection, token.id)
    if account is None or current is None or account.status is Status.ERASED:
        return None
    return account, current


class LinkService:
    """Hands links to notifications. The words of a link are made when it is sent, and are stored nowhere here."""

    def __init__(self, database: Database, links: Links, post: Post) -> None:
        self._database = database
        self._links = links
        self._post = post

    async def send(self, token_id: str, template: str) -> None:
        """Sends a link that still works; again, it is the same mail."""
        async with self._database.connection() as connection:
            token = await repository.find(connection, token_id)
            account = await accounts.by_id(connection, token.account_id) if token else None
        if token is None or account is None or token.used or token.expired or account.status is Status.ERASED:
            return
        data = {
            "customer_name": account.name,
            "link": self._links.link(token.id, token.purpose),
            "valid_minutes": int(token.purpose.lifetime.total_seconds()) // 60,
            **({"new_email": token.new_email} if token.new_email else {}),
        }
        await self._post.send(f"account-link:{token.id}", token.email, template, data)

    async def prune(self) -> int:
        """Forgets links that ran out a week ago."""
        async with self._database.transaction("prune links") as connection:
            return await repository.prune(connection, _KEPT_DAYS)
