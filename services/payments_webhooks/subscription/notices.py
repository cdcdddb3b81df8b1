"""Mails about subscriptions: each is a job of the transaction that learned of what it says."""

from typing import Any, Final

from reliability import jobs
from reliability.crash_points import crash_point
from reliability.jobs import Job, Park
from reliability.postgres import Connection, Database
from services.payments_webhooks.notifications import Notifications
from services.payments_webhooks.subscription import repository
from services.payments_webhooks.subscription.domain import Invoice, Notice, Subscription

__all__ = ["SEND_NOTICE", "Notices", "note"]

SEND_NOTICE: Final = "send_subscription_notice"


async def note(
    connection: Connection, notice: Notice, subscription_id: str, key: str, invoice_id: str | None = None
) -> None:
    """Lets a worker send a mail; `key` names it among all, so that it is sent once."""
    payload = {"notice": notice, "subscription_id": subscription_id, "invoice_id": invoice_id, "key": key}
    await jobs.enqueue(connection, SEND_NOTICE, payload, unique_key=f"{notice}:{key}")


class Notices:
    """The handler of these jobs."""

    def __init__(self, database: Database, notifications: Notifications) -> None:
        self._database = database
        self._notifications = notifications

    async def send(self, job: Job) -> None:
        """Hands one mail over."""
        notice, invoice_id = Notice(job.payload["notice"]), job.payload["invoice_id"]
        async with self._database.connection() as connection:
            subscription = await repository.find(connection, job.payload["subscription_id"])
            invoice = await repository.find_invoice(connection, invoice_id) if invoice_id else None
        if subscription is None:
            raise Park(f"Subscription {job.payload['subscription_id']} is gone.")
        await self._notifications.send(
            f"{notice}:{job.payload['key']}", subscription.email, notice, _data(subscription, invoice)
        )
        crash_point("subscription.notice_not_noted")
        async with self._database.transaction("subscription notice sent") as connection:
            await job.complete(connection)


def _data(subscription: Subscription, invoice: Invoice | None) -> dict[str, Any]:
    data: dict[str, Any] = {"customer_name": subscription.customer_name or None, "plan": subscription.title}
    if invoice is not None:
        data["amount"] = {"amount": invoice.amount_due, "currency": invoice.currency}
        data["next_attempt_at"] = invoice.next_attempt_at
    data["paid_until"], data["ended_at"] = subscription.current_period_end, subscription.ended_at
    return data
