"""Sending money back, once per key and never more than came in."""

from typing import assert_never

import stripe
from opentelemetry import metrics

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
from services.payments_webhooks.refund.domain import RefundState, Told
from services.payments_webhooks.refund.repository import Refund
from services.payments_webhooks.stripe_api import ReplayedFailure, Stripe, too_old

__all__ = ["RefundService"]

_log = get_logger(__name__)
_failures = metrics.get_meter("holdfast").create_counter(
    "holdfast.payments.refund_failures", description="Refunds whose money did not arrive, by reason"
)


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
        stripe_id, state, reason = None, RefundState.FAILED, ""
        try:
            told = Told.of((await self._at_stripe(refund)).to_dict())
            stripe_id, state, reason = told.id, told.state, told.failure_reason
        except stripe.InvalidRequestError as error:  # refused for good: somebody else gave the money back, say
            reason = error.code or "refused"
        crash_point("refund.not_stored")
        async with self._database.transaction("refund created") as connection:
            await self.settle(connection, refund, stripe_id, state, reason)
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

    async def settle(
        self, connection: Connection, refund: Refund, stripe_id: str | None, state: RefundState, reason: str
    ) -> None:
        """Takes in Stripe's word on a refund, from its answer or from an event, whichever comes first."""
        if not await repository.settle(connection, refund.id, stripe_id, state, reason):
            return
        match state:
            case RefundState.SUCCEEDED:
                await self._tell(connection, "report_refund", refund)
            case RefundState.FAILED:
                await self._tell(connection, "report_failed_refund", refund)
                _failures.add(1, {"reason": reason})
                _log.error("refund_failed", refund_id=refund.id, order_id=refund.order_id, reason=reason)
            case RefundState.PENDING:
                pass
            case _:
                assert_never(state)

    async def _tell(self, connection: Connection, kind: str, refund: Refund) -> None:
        """One after the other: that a refund failed must not overtake that it succeeded."""
        payload = {"refund_id": refund.id}
        await jobs.enqueue(
            connection, kind, payload, unique_key=refund.id, order_key=f"refund:{refund.id}", max_attempts=50
        )

    async def report(self, job: Job) -> None:
        """Tells orders that the money went back."""
        refund = await self._get(job.payload["refund_id"])
        assert refund.stripe_refund_id is not None  # set with the state that enqueued this job
        request = orders_pb2.RecordRefundRequest(
            refund_id=refund.stripe_refund_id,
            order_id=refund.order_id,
            amount=money_pb2.Money(amount=refund.amount, currency=refund.currency),
            payment_intent_id=refund.payment_intent_id,
            idempotency_key=refund.idempotency_key,
        )
        await rpc.invoke(self._orders.RecordRefund, request, step="orders.RecordRefund")
        crash_point("refund.reported_not_noted")
        async with self._database.transaction("refund reported") as connection:
            await job.complete(connection)

    async def report_failed(self, job: Job) -> None:
        """Tells orders that the money did not go back after all."""
        refund = await self._get(job.payload["refund_id"])
        request = orders_pb2.RecordRefundFailedRequest(
            refund_id=refund.stripe_refund_id or refund.id,
            order_id=refund.order_id,
            amount=money_pb2.Money(amount=refund.amount, currency=refund.currency),
            reason=refund.failure_reason,
            idempotency_key=refund.idempotency_key,
        )
        await rpc.invoke(self._orders.RecordRefundFailed, request, step="orders.RecordRefundFailed")
        crash_point("refund.failure_reported_not_noted")
        async with self._database.transaction("failed refund reported") as connection:
            await job.complete(connection)

    async def _get(self, refund_id: str) -> Refund:
        async with self._database.connection() as connection:
            refund = await repository.find(connection, refund_id)
        if refund is None:
            raise NotFound(f"There is no refund {refund_id}.")
        adopt_correlation(refund.correlation_id)
        return refund
