"""Sending money back, and taking in what became of it."""

from collections.abc import Callable
from typing import TypeVar

from reliability import audit, idempotency, jobs
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem
from reliability.jobs import Job, NewJob
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.orders.audience.jobs import tell_refunded
from services.orders.errors import OrderNotPaid, RefundExceedsCharge
from services.orders.money import written
from services.orders.notifications import Notifications
from services.orders.order import repository as orders
from services.orders.order.domain import Actor, Order, staff
from services.orders.order.mail import refund_notice
from services.orders.payments import Payments
from services.orders.refund import repository
from services.orders.refund.domain import NewRefund, RefundRequest, RequestState, request_of

__all__ = ["RefundService", "send_back_rest"]

A = TypeVar("A")

_log = get_logger(__name__)
_SENTENCE = "We have sent this money back to you."


class RefundService:
    """Payments moves the money; orders says why, and keeps the books of the order."""

    def __init__(self, database: Database, payments: Payments, notifications: Notifications) -> None:
        self._database = database
        self._payments = payments
        self._notifications = notifications

    async def by_staff(
        self,
        order_id: str,
        amount: tuple[int, str] | None,
        reason: str,
        staff_id: str,
        answer: Callable[[RefundRequest], A],
    ) -> A:
        """Decides to send money back, once per key: minor units and currency, or all that is left.

        Raises `NotFound`, `OrderNotPaid`, `RefundExceedsCharge`.
        """
        async with self._database.transaction("refund by staff") as connection:
            claim = await idempotency.claim(connection, staff_id)
            order = await _locked(connection, order_id)
            request = await _request(connection, order, amount, reason, staff(staff_id))
            detail = {"refund_id": request.id, "amount": request.amount, "currency": request.currency}
            await audit.record(connection, staff_id, "order.refunded", order.id, **detail)
            answered = answer(request)
            await claim.store(connection, 200, answered)
            crash_point("refund.decided_not_committed")
        return answered

    async def send(self, job: Job) -> None:
        """Asks payments to send back what a request says. Its key is the request, so that it goes back once."""
        async with self._database.connection() as connection:
            request = await repository.find_request(connection, job.payload["request_id"])
        if request is None:
            raise jobs.Park(f"the refund request {job.payload['request_id']} is gone")
        refused = ""
        try:
            await self._payments.refund(
                request.key, request.payment_intent_id, request.amount, request.currency, request.reason
            )
        except Problem as problem:
            if problem.code != RefundExceedsCharge.code:
                raise
            refused = problem.code  # somebody gave the money back at Stripe meanwhile
        crash_point("refund.asked_not_noted")
        async with self._database.transaction("refund asked for") as connection:
            if refused:
                await self._failed(connection, request, refused)
            await job.complete(connection)

    async def _failed(self, connection: Connection, request: RefundRequest, why: str) -> None:
        order = await _locked(connection, request.order_id)
        await repository.settle_request(connection, request.id, RequestState.FAILED, None, why)
        says = f"{written(request.amount, request.currency)} could not be sent back: {why}"
        await orders.note(connection, order.id, order.status, says, Actor.PAYMENTS)
        _log.error("refund_refused", order_id=order.id, refund_id=request.id, reason=why)

    async def refund_payment(self, job: Job) -> None:
        """Asks payments to send money back that no order could use. Its key is the payment: it goes back once."""
        refund = job.payload
        key = f"order-cannot-use:{refund['payment_intent_id']}"
        await self._payments.refund(
            key, refund["payment_intent_id"], refund["amount"], refund["currency"], refund["reason"]
        )
        crash_point("refund.unusable_asked_not_noted")
        async with self._database.transaction("refund asked for") as connection:
            await job.complete(connection)

    async def record(self, refund: NewRefund) -> None:
        """Records money that went back and tells the customer, once per refund. Raises `NotFound`."""
        async with self._database.transaction("record refund") as connection:
            order = await _locked(connection, refund.order_id)
            if await repository.record(connection, refund):
                await _settle_request(connection, refund, RequestState.REFUNDED, None)
                await repository.settle(connection, order.id, order.status, _says(refund, "went back"))
                payload = {
                    "order_id": order.id,
                    "refund_id": refund.refund_id,
                    "amount": refund.amount,
                    "currency": refund.currency,
                    "reason": await _why(connection, refund),
                }
                notice = NewJob("send_refund_notice", payload, unique_key=refund.refund_id)
                await jobs.enqueue_many(connection, [notice, tell_refunded(order.id, refund.refund_id)])

    async def record_failed(self, refund: NewRefund, reason: str) -> None:
        """Takes back what `record` booked, once per refund, also before it did. Raises `NotFound`."""
        async with self._database.transaction("record failed refund") as connection:
            order = await _locked(connection, refund.order_id)
            if await repository.record_failed(connection, refund, reason):
                await _settle_request(connection, refund, RequestState.FAILED, reason or "failed")
                says = f"{_says(refund, 'could not be sent back')}: {reason}"
                await repository.settle(connection, order.id, order.status, says)
                await jobs.enqueue_many(connection, [tell_refunded(order.id, f"{refund.refund_id}:failed")])
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
            refund_notice(order, refund["amount"], refund["currency"], refund.get("reason", _SENTENCE)),
        )
        crash_point("refund.notice_not_noted")
        async with self._database.transaction("refund notice sent") as connection:
            await job.complete(connection)


async def send_back_rest(connection: Connection, order: Order, reason: str) -> None:
    """Decides to send back all that is left of an order's money. The caller holds the order's lock."""
    left = await repository.refundable(connection, order.id)
    if left is not None and left[1] > 0:
        await _request(connection, order, None, reason, Actor.ORDERS)


async def _request(
    connection: Connection, order: Order, amount: tuple[int, str] | None, reason: str, actor: str
) -> RefundRequest:
    left = await repository.refundable(connection, order.id)
    if left is None:
        raise OrderNotPaid(f"Order {order.number} is {order.status}: there is nothing to send back.")
    intent, most, currency = left
    wanted, of = amount or (most, currency)
    if of != currency:
        errors = [{"pointer": "/amount/currency", "message": f"the order was paid in {currency}"}]
        raise RefundExceedsCharge(f"Order {order.number} was paid in {currency}, not in {of}.", errors=errors)
    if not 0 < wanted <= most:
        can = (
            f"{written(most, currency)} of order {order.number} can go back"
            if most
            else f"All of order {order.number} went back"
        )
        errors = [{"pointer": "/amount/amount", "message": f"at most {most} can go back"}] if amount else []
        raise RefundExceedsCharge(f"{can}; no more.", errors=errors)
    request_id = await repository.insert_request(connection, order.id, intent, wanted, currency, reason, actor)
    await orders.note(connection, order.id, order.status, f"refund of {written(wanted, currency)}: {reason}", actor)
    payload = {"request_id": request_id}
    await jobs.enqueue(connection, "send_refund", payload, unique_key=request_id, max_attempts=50)
    request = await repository.find_request(connection, request_id)
    assert request is not None  # inserted above
    return request


async def _settle_request(connection: Connection, refund: NewRefund, state: RequestState, failure: str | None) -> None:
    if (request_id := request_of(refund.key)) is not None:
        await repository.settle_request(connection, request_id, state, refund.refund_id, failure)


async def _why(connection: Connection, refund: NewRefund) -> str:
    """What the customer is told."""
    request_id = request_of(refund.key)
    request = await repository.find_request(connection, request_id) if request_id else None
    if request is not None:
        return request.reason
    return "not_payable" if await repository.is_of_unusable_payment(connection, refund.refund_id) else _SENTENCE


async def _locked(connection: Connection, order_id: str) -> Order:
    order = await orders.find(connection, order_id, lock=True)
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    adopt_correlation(order.correlation_id)
    return order


def _says(refund: NewRefund, what: str) -> str:
    return f"{written(refund.amount, refund.currency)} {what}, refund {refund.refund_id}"
