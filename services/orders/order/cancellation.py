"""Ending an order that was not paid. Stripe is asked first, and only its word ends the order."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from holdfast.payments.v1 import payments_pb2
from reliability import audit, idempotency, jobs
from reliability.crash_points import crash_point
from reliability.errors import NotFound
from reliability.jobs import Job, Run, Snooze
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.orders.catalog import Catalog
from services.orders.coupon import repository as coupons
from services.orders.errors import CheckoutClosed, PaymentInProgress
from services.orders.order import repository
from services.orders.order.domain import Actor, Order, OrderStatus, staff, staff_of
from services.orders.payments import Payments

__all__ = ["CancellationService"]

View = TypeVar("View", bound=BaseModel)

_RECHECK_SECONDS = 30.0
# A little more than a request may take: a retry after a crash need not wait longer than that.
_LEASE_SECONDS = 10.0
_BATCH = 500


class CancellationService:
    """By the customer, by the clock, or because the checkout failed."""

    def __init__(self, database: Database, catalog: Catalog, payments: Payments, hold_ttl: int) -> None:
        self._database = database
        self._catalog = catalog
        self._payments = payments
        self._hold_ttl = hold_ttl

    async def cancel(self, order: Order, reason: str, actor: str) -> None:
        """Ends a pending order; what staff end is audited. Raises `PaymentInProgress`.

        That it is being ended is written down before Stripe is asked: whoever dies in between leaves an order that the
        next reader, or a job, ends as this was to.
        """
        async with self._database.transaction("begin ending") as connection:
            await repository.begin_ending(connection, order.id, reason, actor)
            await jobs.enqueue(connection, "end_order", {"order_id": order.id}, delay=_LEASE_SECONDS)
        crash_point("cancel.not_asked")
        status = await self._payments.cancel_intent(order.id)
        if status != payments_pb2.INTENT_STATUS_CANCELED:
            async with self._database.transaction("stop ending") as connection:
                await repository.stop_ending(connection, order.id)
            raise PaymentInProgress("The payment is being processed or has gone through; it is too late to cancel.")
        crash_point("cancel.confirmed_by_stripe")
        async with self._database.transaction("cancel order") as connection:
            if await repository.cancel(connection, order.id, reason, actor):
                if order.coupon_code:
                    await coupons.give_back(connection, order.id)
                if (staff_id := staff_of(actor)) is not None:
                    await audit.record(connection, staff_id, "order.cancelled", order.id, reason=reason)
                await jobs.enqueue(connection, "release_stock", {"order_id": order.id}, unique_key=order.id)
            crash_point("cancel.not_committed")

    async def finish(self, order: Order) -> Order:
        """Comes to the end of what somebody began who died before it; the order as it is then."""
        if order.ending_reason is not None and order.ending_actor is not None:
            with suppress(PaymentInProgress):
                await self.cancel(order, order.ending_reason, order.ending_actor)
        async with self._database.connection() as connection:
            return await repository.get(connection, order.id)

    async def end(self, job: Job) -> None:
        """Does the same some seconds later, if nobody has."""
        async with self._database.connection() as connection:
            order = await repository.get(connection, job.payload["order_id"])
        if order.ending:
            adopt_correlation(order.correlation_id)
            await self.finish(order)

    async def by_customer(
        self,
        order_id: str,
        view: Callable[[Connection, Order], Awaitable[View]],
        *,
        customer_id: str | None = None,
    ) -> View:
        """Ends an order at its customer's wish; the second call finds it ended. The answer is its `view`.

        Raises `NotFound`, also for somebody else's when `customer_id` is given, `PaymentInProgress`, `CheckoutClosed`.
        """
        async with self._database.transaction("claim cancellation") as connection:
            order = await repository.find(connection, order_id)
            if order is None or (customer_id and order.customer_id != customer_id):
                raise NotFound
            claim = await idempotency.claim(connection, order_id, lease_seconds=_LEASE_SECONDS)
        try:
            if order.status is OrderStatus.PENDING:
                await self.cancel(order, "cancelled by the customer", Actor.CUSTOMER)
            elif order.status is not OrderStatus.CANCELLED:
                raise CheckoutClosed("The order is paid; it can no longer be cancelled here.")
        except Exception:
            async with self._database.transaction("forget key") as connection:
                await claim.forget(connection)  # what was refused may be asked again; what was done is found done
            raise
        async with self._database.transaction("answer cancellation") as connection:
            answer = await view(connection, await repository.find(connection, order_id) or order)
            await claim.store(connection, 200, answer.model_dump(mode="json"))
        return answer

    async def by_staff(self, order_id: str, reason: str, staff_id: str) -> None:
        """Ends an order that was not paid; the second call finds it ended.

        Raises `NotFound`, `PaymentInProgress`, `CheckoutClosed`.
        """
        # No key is needed: the order's own state replays the answer.
        async with self._database.connection() as connection:
            order = await repository.get(connection, order_id)
        adopt_correlation(order.correlation_id)
        if order.status is OrderStatus.PENDING:
            await self.cancel(order, reason, staff(staff_id))
        elif order.status is not OrderStatus.CANCELLED:
            raise CheckoutClosed("The order is paid; send its money back instead.")

    async def expire_overdue(self, _scheduled_for: datetime | None = None) -> Run:
        """Has every order ended whose time is up, each by a job of its own; the run counts those that are new.

        After an outage there may be any number of them: a statement takes a batch.
        """
        enqueued, batch = 0, repository.Overdue()
        while True:
            async with self._database.connection() as connection:
                found = await repository.expire_overdue(connection, batch, _BATCH)
            if found is None:
                return Run(enqueued)
            batch, enqueued = found, enqueued + found.enqueued

    async def expire(self, job: Job) -> None:
        """Ends an order nobody paid in time.

        While Stripe says that money is on its way, the hold is extended instead and the job comes back.
        """
        async with self._database.connection() as connection:
            order = await repository.find(connection, job.payload["order_id"])
        if order is None or order.status is not OrderStatus.PENDING:
            return
        adopt_correlation(order.correlation_id)
        try:
            await self.cancel(order, "not paid in time", Actor.CLOCK)
        except PaymentInProgress:
            expires_at = await self._catalog.extend(order.id, self._hold_ttl)
            crash_point("expiry.extended_not_noted")
            async with self._database.transaction("extend hold") as connection:
                await repository.set_hold(connection, order.id, expires_at)
            # A bank debit takes days, and its end comes by webhook: less and less often, but well within the hold.
            raise Snooze(min(max(_RECHECK_SECONDS, job.age / 10), self._hold_ttl / 2)) from None

    async def release_stock(self, job: Job) -> None:
        """Puts the pieces of a cancelled order back on sale."""
        await self._catalog.release(job.payload["order_id"])
        crash_point("release.not_noted")
        async with self._database.transaction("stock released") as connection:
            await job.complete(connection)
