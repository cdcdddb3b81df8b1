"""What happens to an order after it was placed."""

from datetime import datetime

import asyncpg

from reliability import jobs
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem
from reliability.jobs import Job, Worker
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.orders.catalog import Catalog
from services.orders.errors import AmountMismatch
from services.orders.money import written
from services.orders.notifications import Notifications
from services.orders.order import repository
from services.orders.order.domain import Actor, Order, PaymentOutcome, StockState, outcome_of_payment
from services.orders.order.mail import confirmation
from services.orders.order.repository import NewPayment, Summary
from services.orders.refund.service import send_back_rest

__all__ = ["OrderService"]

_log = get_logger(__name__)


class OrderService:
    """Payment, stock, confirmation."""

    def __init__(self, database: Database, catalog: Catalog, notifications: Notifications, worker: Worker) -> None:
        self._database = database
        self._worker = worker
        self._catalog = catalog
        self._notifications = notifications

    async def record_payment(self, payment: NewPayment) -> PaymentOutcome:
        """Takes money for an order, once per payment intent. Raises `NotFound`, `AmountMismatch`."""
        if await self._awaited(payment):
            return PaymentOutcome.APPLIED
        async with self._database.transaction("record payment") as connection:
            order = await repository.find(connection, payment.order_id, lock=True)
            if order is None:
                raise NotFound(f"There is no order {payment.order_id}.")
            adopt_correlation(order.correlation_id)
            known = await repository.find_payment(connection, payment.payment_intent_id)
            if known is not None:
                return known
            outcome = outcome_of_payment(order.status)
            if outcome is PaymentOutcome.APPLIED:  # it waits for money
                if (payment.amount, payment.currency) == (order.total, order.currency):
                    return await self._take_with_cart(connection, payment)
                raise AmountMismatch(
                    f"Order {order.number} costs {written(order.total, order.currency)}, "
                    f"{written(payment.amount, payment.currency)} arrived."
                )
            await repository.record_payment(connection, payment, outcome)
            reason = "a payment came that the order cannot use"
            await repository.note(connection, order.id, order.status, reason, Actor.PAYMENTS)
            await self._send_back(connection, payment, "order no longer payable")
            return outcome

    async def _awaited(self, payment: NewPayment) -> bool:
        """Takes the payment if it is the one the order waits for. One statement is the transaction."""
        async with self._database.connection() as connection:
            crash_point("payment.not_committed")
            try:
                with self._worker.offer(repository.SETTLE) as offer:
                    flow = await repository.take_payment(connection, payment, offer)
            except asyncpg.UniqueViolationError:  # recorded before, for another order
                return False
        if flow is None:
            return False
        adopt_correlation(flow)
        return True

    async def _take_with_cart(self, connection: Connection, payment: NewPayment) -> PaymentOutcome:
        """Takes the payment the order waits for, when the cart was being changed at the first try."""
        await repository.lock_with_cart(connection, payment.order_id)
        taken = await repository.take_payment(connection, payment, jobs.NO_OFFER)
        assert taken is not None  # both rows are ours, and the order waits for this
        return PaymentOutcome.APPLIED

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

    async def settle(self, job: Job) -> None:
        """Takes the sold pieces out of the warehouse, then tells; or sends the money back when they are gone.

        Both calls may be repeated. What they did is noted in one statement behind them.
        """
        order = await self._get(job.payload["order_id"])
        if order.stock is StockState.LOST:  # its money goes back already
            return
        if order.stock is StockState.HELD:
            taken = await self._take_stock(order)
            crash_point("stock.not_noted")
            if not taken:
                await self._stock_lost(order, job)
                return
        await self._tell(order)
        crash_point("confirmation.not_noted")
        async with self._database.connection() as connection:
            await repository.settled(connection, order, job)

    async def _take_stock(self, order: Order) -> bool:
        """Whether the pieces are still there."""
        try:
            await self._catalog.commit(order.id, order.customer_id)
        except Problem as problem:
            if problem.code != "hold_lost":
                raise
            return False
        return True

    async def _tell(self, order: Order) -> None:
        """Tells notifications who bought what, and what the confirmation says.

        While it is away, what catalog did is noted: the goods can be sent, and catalog is not asked again.
        """
        try:
            await self._notifications.record_paid(order, confirmation(order))
        except Problem:
            if order.stock is StockState.HELD:
                async with self._database.connection() as connection:
                    await repository.set_stock(connection, order.id, StockState.COMMITTED)
                crash_point("stock.noted")
            raise

    async def tell_paid(self, job: Job) -> None:
        """Tells of a purchase whose stock and mail are another job's: in the version before they were."""
        await self._notifications.record_paid(await self._get(job.payload["order_id"]))

    async def _stock_lost(self, order: Order, job: Job) -> None:
        async with self._database.transaction("stock lost") as connection:
            await repository.find(connection, order.id, lock=True)
            await repository.set_stock(connection, order.id, StockState.LOST)
            await repository.note(connection, order.id, order.status, "the stock was gone when the money came")
            await send_back_rest(connection, order, "out_of_stock")
            await job.complete(connection)
        crash_point("stock.lost")

    async def payable(self, order_id: str, customer_id: str) -> Order:
        """A customer's order, for who wants to let them pay it. Raises `NotFound`."""
        order = await self._get(order_id)
        if not customer_id or order.customer_id != customer_id:
            raise NotFound(f"There is no order {order_id}.")
        return order

    async def summary(self, since: datetime) -> Summary:
        """Figures for the dashboard."""
        async with self._database.connection() as connection:
            return await repository.summary(connection, since)

    async def _get(self, order_id: str) -> Order:
        async with self._database.connection() as connection:
            return await repository.get(connection, order_id)
