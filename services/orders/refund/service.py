"""Sending money back, and taking in what became of it."""

from reliability import jobs
from reliability.crash_points import crash_point
from reliability.errors import NotFound
from reliability.jobs import Job
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.orders.notifications import Notifications
from services.orders.order import repository as orders
from services.orders.order.domain import Order
from services.orders.order.mail import refund_notice
from services.orders.payments import Payments
from services.orders.refund import repository
from services.orders.refund.repository import NewRefund

__all__ = ["RefundService"]

_log = get_logger(__name__)


class RefundService:
    """Payments moves the money; orders says why, and keeps the books of the order."""

    def __init__(self, database: Database, payments: Payments, notifications: Notifications) -> None:
        self._database = database
        self._payments = payments
        self._notifications = notifications

    async def refund_payment(self, job: Job) -> None:
        """Asks payments to send money back. Its key is the payment: one payment goes back once."""
        refund = job.payload
        key = f"order-cannot-use:{refund['payment_intent_id']}"
        await self._payments.refund(
            key, refund["payment_intent_id"], refund["amount"], refund["currency"], refund["reason"]
        )
        crash_point("refund.asked_not_noted")
        async with self._database.transaction("refund asked for") as connection:
            await job.complete(connection)

    async def record(self, refund: NewRefund) -> None:
        """Records money that went back and tells the customer, once per refund. Raises `NotFound`."""
        async with self._database.transaction("record refund") as connection:
            order = await _locked(connection, refund.order_id)
            if await repository.record(connection, refund):
                await repository.settle(connection, order.id, order.status, _says(refund, "went back"))
                payload = {
                    "order_id": order.id,
                    "refund_id": refund.refund_id,
                    "amount": refund.amount,
                    "currency": refund.currency,
                }
                await jobs.enqueue(connection, "send_refund_notice", payload, unique_key=refund.refund_id)

    async def record_failed(self, refund: NewRefund, reason: str) -> None:
        """Takes back what `record` booked, once per refund, also before it did. Raises `NotFound`."""
        async with self._database.transaction("record failed refund") as connection:
            order = await _locked(connection, refund.order_id)
            if await repository.record_failed(connection, refund, reason):
                says = f"{_says(refund, 'could not be sent back')}: {reason}"
                await repository.settle(connection, order.id, order.status, says)
                _log.error("refund_failed", order_id=order.id, refund_id=refund.refund_id, reason=reason)

    async def send_notice(self, job: Job) -> None:
        """Tells the customer that money went back."""
        refund = job.payload
        async with self._database.connection() as connection:
            order = await orders.get(connection, refund["order_id"])
        await self._notifications.send(
            f"refund:{refund['refund_id']}",
            order.email,
            "refund_issued",
            refund_notice(order, refund["amount"], refund["currency"]),
        )
        async with self._database.transaction("refund notice sent") as connection:
            await job.complete(connection)


async def _locked(connection: Connection, order_id: str) -> Order:
    order = await orders.find(connection, order_id, lock=True)
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    adopt_correlation(order.correlation_id)
    return order


def _says(refund: NewRefund, what: str) -> str:
    return f"{refund.amount} {refund.currency} {what}, refund {refund.refund_id}"
