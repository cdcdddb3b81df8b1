"""Sending money back, once per key and never more than came in."""

import stripe

from holdfast.common.v1 import money_pb2
from holdfast.orders.v1 import orders_pb2, orders_pb2_grpc
from reliability import jobs, rpc
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Unavailable
from reliability.jobs import Job
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.errors import RefundExceedsCharge
from services.payments_webhooks.intent import repository as payments
from services.payments_webhooks.refund import repository
from services.payments_webhooks.refund.repository import Refund
from services.payments_webhooks.stripe_api import ReplayedFailure, Stripe, too_old

__all__ = ["RefundService"]

_log = get_logger(__name__)


class RefundService:
    """Decides under the payment's lock, asks Stripe from a job, tells orders from another."""

    def __init__(self, database: Database, stripe: Stripe, orders: "orders_pb2_grpc.OrdersServiceAsyncStub") -> None:
        self._database = database
        self._stripe = stripe
        self._orders = orders

    async def request(self, key: str, payment_intent_id: str, amount: int, currency: str, reason: str) -> str:
        """Our id of the refund named `key`. Raises `NotFound`, `RefundExceedsCharge`."""
        async with self._database.transaction("request refund") as connection:
            payment = await payments.by_intent(connection, payment_intent_id, lock=True)
            if payment is None:
                raise NotFound(f"There is no payment {payment_intent_id}.")
            known = await repository.find_by_key(connection, key)
            if known is not None:
                return known.id
            already = await repository.refunded(connection, payment.id)
            if amount <= 0 or currency != payment.currency or already + amount > payment.amount:
                raise RefundExceedsCharge(
                    f"{payment.amount - already} {payment.currency} of it can go back, not {amount} {currency}."
                )
            refund_id = await repository.insert(connection, key, payment.id, amount, currency, reason)
            await jobs.enqueue(
                connection, "create_refund", {"refund_id": refund_id}, unique_key=refund_id, max_attempts=50
            )
            return refund_id

    async def create(self, job: Job) -> None:
        """Asks Stripe; the key is the refund, so asking again gives the same refund."""
        refund = await self._get(job.payload["refund_id"])
        answer = await self._at_stripe(refund)
        crash_point("refund.not_stored")
        async with self._database.transaction("refund created") as connection:
            await self.settle(connection, refund, answer.id, answer.status or "pending")
            await job.complete(connection)

    async def _at_stripe(self, refund: Refund) -> stripe.Refund:
        """The refund Stripe has for ours, made if there is none, however often this is asked."""
        if too_old(refund.created_at):
            found = await self._stripe.refunds.find(refund.id, refund.payment_intent_id)
            if found is not None:
                return found
        try:
            return await self._stripe.refunds.create(
                refund.stripe_idempotency_key, refund.payment_intent_id, refund.amount, refund.metadata()
            )
        except ReplayedFailure as error:
            found = await self._stripe.refunds.find(refund.id, refund.payment_intent_id)
            if found is not None:
                return found
            async with self._database.transaction("give up stripe key") as connection:
                await repository.next_key(connection, refund)
            raise Unavailable("Stripe had an error; try again in a moment.") from error

    async def settle(self, connection: Connection, refund: Refund, stripe_id: str, status: str) -> None:
        """Takes in Stripe's word on a refund, from its answer or from an event, whichever comes first."""
        state = {"succeeded": "succeeded", "failed": "failed", "canceled": "failed"}.get(status, "pending")
        if await repository.settle(connection, refund.id, stripe_id, state):
            await jobs.enqueue(
                connection, "report_refund", {"refund_id": refund.id}, unique_key=refund.id, max_attempts=50
            )
        if state == "failed":
            _log.error("refund_failed", refund_id=refund.id, order_id=refund.order_id, stripe_refund_id=stripe_id)

    async def report(self, job: Job) -> None:
        """Tells orders that the money went back."""
        refund = await self._get(job.payload["refund_id"])
        assert refund.stripe_refund_id is not None  # set with the state that enqueued this job
        request = orders_pb2.RecordRefundRequest(
            refund_id=refund.stripe_refund_id,
            order_id=refund.order_id,
            amount=money_pb2.Money(amount=refund.amount, currency=refund.currency),
        )
        await rpc.invoke(self._orders.RecordRefund, request, step="orders.RecordRefund")
        crash_point("refund.reported_not_noted")
        async with self._database.transaction("refund reported") as connection:
            await job.complete(connection)

    async def _get(self, refund_id: str) -> Refund:
        async with self._database.connection() as connection:
            refund = await repository.find(connection, refund_id)
        if refund is None:
            raise NotFound(f"There is no refund {refund_id}.")
        adopt_correlation(refund.correlation_id)
        return refund
