"""Queues mails in the transaction that gave rise to them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from reliability import jobs
from reliability.ids import new_id
from reliability.postgres import Connection
from services.accounts.identity.domain import Account

__all__ = ["SEND_MAIL", "queue_mail", "queue_notice"]

SEND_MAIL: Final = "send_mail"
# Full jitter up to five minutes makes this about eight hours: notifications may be away for a night.
_ATTEMPTS: Final = 200


async def queue_mail(connection: Connection, account: Account, template: str, data: Mapping[str, Any], to: str) -> None:
    """A mail to `to`; its words are settled now, so that trying again hands over the same mail."""
    payload = {
        "key": f"account:{new_id()}",
        "to": to,
        "template": template,
        "data": {"customer_name": account.name, **data},
    }
    await jobs.enqueue(connection, SEND_MAIL, payload, max_attempts=_ATTEMPTS)


async def queue_notice(
    connection: Connection, account: Account, template: str, *, public_url: str, at: datetime, **data: Any
) -> None:
    """Tells somebody what happened to their account, and where to act if it was not them."""
    said = {"happened_at": at.isoformat(), "link": f"{public_url}/account/forgot-password", **data}
    await queue_mail(connection, account, template, said, account.email)
