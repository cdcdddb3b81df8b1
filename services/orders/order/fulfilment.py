"""Handing a paid order to a carrier, and telling its customer; the confirmation once more."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from reliability import audit, idempotency, jobs
from reliability.crash_points import crash_point
from reliability.errors import NotFound
from reliability.ids import new_id
from reliability.jobs import Job
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.orders.errors import NotFulfillable, OrderNotPaid
from services.orders.notifications import Notifications
from services.orders.order import repository
from services.orders.order.domain import Order, OrderStatus, StockState, staff
from services.orders.order.mail import confirmation, shipping_notice

__all__ = ["FulfilmentService", "Shipment"]

A = TypeVar("A")

_UNPAID = (OrderStatus.PENDING, OrderStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Shipment:
    """Who carries it, and where to follow it."""

    carrier: str | None
    tracking_number: str | None
    tracking_url: str | None


class FulfilmentService:
    """What staff do with a paid order."""

    def __init__(self, database: Database, notifications: Notifications) -> None:
        self._database = database
        self._notifications = notifications

    async def fulfil(
        self, order_id: str, shipment: Shipment, staff_id: str, answer: Callable[[Order, datetime], A]
    ) -> A:
        """Notes that an order was handed over and decides to tell the customer, once per order.

        Raises `NotFound`, `OrderNotPaid`, `NotFulfillable`.
        """
        async with self._database.transaction("fulfil order") as connection:
            claim = await idempotency.claim(connection, staff_id)
            order = await _paid(connection, order_id)
            at = await repository.fulfil(
                connection, order.id, shipment.carrier, shipment.tracking_number, shipment.tracking_url
            )
            if at is None:
                raise NotFulfillable(f"Order {order.number} is {order.status}, its stock {order.stock}.")
            after = await repository.get(connection, order.id)
            await repository.note(connection, order.id, after.status, "handed to the carrier", staff(staff_id))
            await audit.record(connection, staff_id, "order.fulfilled", order.id)
            payload = {
                "order_id": order.id,
                "carrier": shipment.carrier,
                "tracking_number": shipment.tracking_number,
                "tracking_url": shipment.tracking_url,
            }
            await jobs.enqueue(connection, "send_shipping_notice", payload, unique_key=order.id)
            answered = answer(after, at)
            await claim.store(connection, 200, answered)
            crash_point("fulfilment.not_committed")
        return answered

    async def send_notice(self, job: Job) -> None:
        """Tells the customer that the order is on its way."""
        told = job.payload
        order = await self._get(told["order_id"])
        data = shipping_notice(order, told["carrier"], told["tracking_number"], told["tracking_url"])
        await self._notifications.send(f"order-shipped:{order.id}", order.email, "order_shipped", data)
        crash_point("fulfilment.notice_not_noted")
        async with self._database.transaction("shipping notice sent") as connection:
            await job.complete(connection)

    async def confirm_again(self, order_id: str, staff_id: str, answer: Callable[[Order], A]) -> A:
        """Decides to send the confirmation once more. Raises `NotFound`, `OrderNotPaid`."""
        async with self._database.transaction("confirm again") as connection:
            claim = await idempotency.claim(connection, staff_id)
            order = await _paid(connection, order_id)
            if order.stock is not StockState.COMMITTED:
                raise OrderNotPaid(f"Order {order.number} has not been confirmed: its stock is {order.stock}.")
            request = new_id()
            await repository.note(connection, order.id, order.status, "confirmation sent again", staff(staff_id))
            await audit.record(connection, staff_id, "order.confirmation_resent", order.id)
            payload = {"order_id": order.id, "request": request}
            await jobs.enqueue(connection, "resend_confirmation", payload, unique_key=request)
            answered = answer(order)
            await claim.store(connection, 200, answered)
        return answered

    async def send_again(self, job: Job) -> None:
        """Hands the confirmation over again, under a key that is the click's."""
        order = await self._get(job.payload["order_id"])
        key = f"order-confirmation:{order.id}:{job.payload['request']}"
        await self._notifications.send(key, order.email, "order_confirmation", confirmation(order))
        async with self._database.transaction("confirmation sent again") as connection:
            await job.complete(connection)

    async def _get(self, order_id: str) -> Order:
        async with self._database.connection() as connection:
            order = await repository.get(connection, order_id)
        adopt_correlation(order.correlation_id)
        return order


async def _paid(connection: Connection, order_id: str) -> Order:
    order = await repository.find(connection, order_id, lock=True)
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    adopt_correlation(order.correlation_id)
    if order.status in _UNPAID:
        raise OrderNotPaid(f"Order {order.number} is {order.status}.")
    return order
