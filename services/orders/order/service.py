"""What happens to an order after it was placed."""

from datetime import datetime

from holdfast.payments.v1 import payments_pb2
from reliability import jobs
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem
from reliability.jobs import Job, Snooze
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.orders.cart import repository as carts
from services.orders.catalog import Catalog
from services.orders.errors import AmountMismatch, PaymentInProgress
from services.orders.notifications import Notifications
from services.orders.order import repository
from services.orders.order.domain import Order, OrderStatus, PaymentOutcome, StockState, outcome_of_payment
from services.orders.order.mail import confirmation, refund_notice
from services.orders.order.repository import NewPayment, Summary
from services.orders.payments import Payments

__all__ = ["OrderService"]

_log = get_logger(__name__)
_RECHECK_SECONDS = 30.0


class OrderService:
    """Payment, stock, confirmation, cancellation, refund."""

    def __init__(
        self, database: Database, catalog: Catalog, payments: Payments, notifications: Notifications, hold_ttl: int
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._payments = payments
        self._notifications = notifications
        self._hold_ttl = hold_ttl

    async def record_payment(self, payment: NewPayment) -> PaymentOutcome:
        """Takes money for an order, once per payment intent. Raises `NotFound`, `AmountMismatch`."""
        async with self._database.transaction("record payment") as connection:
            order = await repository.find(connection, payment.order_id, lock=True)
            if order is None:
                raise NotFound(f"There is no order {payment.order_id}.")
            adopt_correlation(order.correlation_id)
            known = await repository.find_payment(connection, payment.payment_intent_id)
            if known is not None:
                return known
            outcome = outcome_of_payment(order.status)
            matches = (payment.amount, payment.currency) == (order.total, order.currency)
            if outcome is PaymentOutcome.APPLIED and not matches:
                raise AmountMismatch(
                    f"Order {order.number} costs {order.total} {order.currency}, "
                    f"{payment.amount} {payment.currency} arrived."
                )
            await repository.record_payment(connection, payment, outcome)
            await self._apply(connection, order, payment, outcome)
            crash_point("payment.not_committed")
            return outcome

    async def _apply(self, connection: Connection, order: Order, payment: NewPayment, outcome: PaymentOutcome) -> None:
        if outcome is PaymentOutcome.APPLIED:
            await repository.mark_paid(connection, order.id)
            await carts.close(connection, order.cart_id)
            await jobs.enqueue(connection, "commit_stock", {"order_id": order.id}, unique_key=order.id)
        else:
            await repository.note(connection, order.id, order.status, "a payment came that the order cannot use")
            await self._send_back(connection, payment, "order no longer payable")

    async def _send_back(self, connection: Connection, payment: NewPayment, reason: str) -> None:
        await jobs.enqueue(
            connection,
            "refund_payment",
            {
                "order_id": payment.order_id,
                "payment_intent_id": payment.payment_intent_id,
                "amount": payment.amount,
                "currency": payment.currency,
                "reason": reason,
            },
            unique_key=payment.payment_intent_id,
            max_attempts=50,
        )

    async def commit_stock(self, job: Job) -> None:
        """Takes the sold pieces out of the warehouse, then confirms; or sends the money back when they are gone."""
        order = await self._get(job.payload["order_id"])
        if order.stock is StockState.HELD:
            try:
                await self._catalog.commit(order.id)
                stock = StockState.COMMITTED
            except Problem as problem:
                if problem.code != "hold_lost":
                    raise
                stock = StockState.LOST
        else:
            stock = order.stock
        crash_point("stock.not_noted")
        async with self._database.transaction("stock committed") as connection:
            await repository.set_stock(connection, order.id, stock)
            if stock is StockState.COMMITTED:
                await jobs.enqueue(connection, "send_confirmation", {"order_id": order.id}, unique_key=order.id)
            elif order.payment_intent_id is not None:
                await repository.note(connection, order.id, order.status, "the stock was gone when the money came")
                payment = NewPayment(order.payment_intent_id, order.id, order.total, order.currency)
                await self._send_back(connection, payment, "out of stock")
            await job.complete(connection)
        crash_point("stock.noted")

    async def send_confirmation(self, job: Job) -> None:
        """Hands the confirmation over to notifications, under a key that is the order's."""
        order = await self._get(job.payload["order_id"])
        await self._notifications.send(
            f"order-confirmation:{order.id}", order.email, "order_confirmation", confirmation(order)
        )
        crash_point("confirmation.not_noted")
        async with self._database.transaction("confirmation sent") as connection:
            await repository.note(connection, order.id, order.status, "confirmation handed over")
            await job.complete(connection)

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

    async def record_refund(self, refund_id: str, order_id: str, amount: int, currency: str) -> None:
        """Records money that went back and tells the customer, once per refund. Raises `NotFound`."""
        async with self._database.transaction("record refund") as connection:
            order = await repository.find(connection, order_id, lock=True)
            if order is None:
                raise NotFound(f"There is no order {order_id}.")
            adopt_correlation(order.correlation_id)
            if await repository.record_refund(connection, refund_id, order_id, amount, currency):
                payload = {"order_id": order_id, "refund_id": refund_id, "amount": amount, "currency": currency}
                await jobs.enqueue(connection, "send_refund_notice", payload, unique_key=refund_id)

    async def send_refund_notice(self, job: Job) -> None:
        """Tells the customer that money went back."""
        refund = job.payload
        order = await self._get(refund["order_id"])
        await self._notifications.send(
            f"refund:{refund['refund_id']}",
            order.email,
            "refund_issued",
            refund_notice(order, refund["amount"], refund["currency"]),
        )
        async with self._database.transaction("refund notice sent") as connection:
            await job.complete(connection)

    async def expire(self, job: Job) -> None:
        """Ends an order nobody paid in time; comes back while its money may still be on the way."""
        order = await self._get(job.payload["order_id"])
        if order.status is not OrderStatus.PENDING:
            return
        try:
            await self.cancel(order, "not paid in time")
        except PaymentInProgress:
            expires_at = await self._catalog.extend(order.id, self._hold_ttl)
            async with self._database.transaction("extend hold") as connection:
                await repository.set_hold(connection, order.id, expires_at)
            raise Snooze(min(_RECHECK_SECONDS, self._hold_ttl)) from None

    async def cancel(self, order: Order, reason: str) -> None:
        """Ends a pending order. Stripe is asked first, and only its word ends the order. Raises `PaymentInProgress`."""
        status = await self._payments.cancel_intent(order.id)
        if status != payments_pb2.INTENT_STATUS_CANCELED:
            raise PaymentInProgress("The payment is being processed or has gone through; it is too late to cancel.")
        async with self._database.transaction("cancel order") as connection:
            if await repository.cancel(connection, order.id, reason):
                await jobs.enqueue(connection, "release_stock", {"order_id": order.id}, unique_key=order.id)

    async def release_stock(self, job: Job) -> None:
        """Puts the pieces of a cancelled order back on sale."""
        await self._catalog.release(job.payload["order_id"])
        async with self._database.transaction("stock released") as connection:
            await job.complete(connection)

    async def summary(self, since: datetime) -> Summary:
        """Figures for the dashboard."""
        async with self._database.connection() as connection:
            return await repository.summary(connection, since)

    async def _get(self, order_id: str) -> Order:
        async with self._database.connection() as connection:
            order = await repository.find(connection, order_id)
        if order is None:
            raise NotFound(f"There is no order {order_id}.")
        return order
