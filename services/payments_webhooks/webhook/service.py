"""Receiving Stripe's events and giving each its effect, once.

The request only stores: inbox row and job in one statement, then 200. What it means is worked out by the job,
which may run again after a crash and finds its work done.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from holdfast.common.v1 import money_pb2
from holdfast.orders.v1 import orders_pb2, orders_pb2_grpc
from reliability import inbox, rpc
from reliability.context import correlation_id
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem
from reliability.inbox import Received
from reliability.jobs import Job, Park
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.intent import repository as payments
from services.payments_webhooks.intent.domain import Payment, PaymentState
from services.payments_webhooks.refund import repository as refunds
from services.payments_webhooks.refund.service import RefundService
from services.payments_webhooks.webhook.domain import Event, parse

__all__ = ["PROCESS_EVENT", "WebhookService"]

PROCESS_EVENT = "process_event"
_SOURCE = "stripe"
_HOPELESS = {"amount_mismatch"}
_log = get_logger(__name__)

Effect = Callable[[Connection], Awaitable[None]]


async def _nothing(_connection: Connection) -> None:
    """The effect of an event that needs none."""


class WebhookService:
    """The inbox and its handlers."""

    def __init__(
        self,
        database: Database,
        secrets: Sequence[str],
        refund_service: RefundService,
        orders: "orders_pb2_grpc.OrdersServiceAsyncStub",
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._refunds = refund_service
        self._orders = orders
        self._handlers: Mapping[str, Callable[[Event], Awaitable[Effect]]] = {
            "payment_intent.succeeded": self._succeeded,
            "payment_intent.processing": self._moved(PaymentState.PROCESSING),
            "payment_intent.canceled": self._moved(PaymentState.CANCELED),
            "refund.created": self._refund_changed,
            "refund.updated": self._refund_changed,
            "refund.failed": self._refund_changed,
        }

    async def receive(self, body: bytes, signature: str) -> bool:
        """Verifies and stores an event with its job; False when it was stored before.

        Raises `InvalidSignature`, `StaleSignature`, `InvalidEvent`.
        """
        inbox.verify_signature(body, signature, self._secrets)
        event = parse(body)
        if flow := event.metadata.get("correlation_id"):
            adopt_correlation(flow)
        received = Received(_SOURCE, event.id, event.type, event.object_key, body)
        async with self._database.connection() as connection:
            fresh = await inbox.receive(connection, received, job=PROCESS_EVENT)
        crash_point("webhook.not_answered")
        return fresh

    async def process(self, job: Job) -> None:
        """Works out what an event means, then records effect, inbox and job in one transaction."""
        inbox_id = job.payload["inbox_id"]
        async with self._database.connection() as connection:
            row = await inbox.stored(connection, inbox_id)
        event = parse(row["body"])
        handler = self._handlers.get(event.type)
        effect = await handler(event) if handler else _nothing
        async with self._database.transaction("event processed") as connection:
            await effect(connection)
            await inbox.finish(connection, inbox_id, "processed" if handler else "ignored", correlation_id())
            await job.complete(connection)
            crash_point("webhook.not_committed")

    async def parked(self, connection: Connection, job: Job, reason: str) -> None:
        """Runs in the transaction that gives up on an event's job."""
        await inbox.park(connection, job.payload["inbox_id"])
        _log.error("webhook_parked", inbox_id=job.payload["inbox_id"], reason=reason)

    async def _succeeded(self, event: Event) -> Effect:
        """Money arrived: orders decides what becomes of it."""
        payment = await self._payment_of(event)
        intent = event.object
        request = orders_pb2.RecordPaymentRequest(
            payment_intent_id=intent["id"],
            order_id=payment.order_id,
            amount=money_pb2.Money(amount=intent["amount_received"], currency=intent["currency"].upper()),
        )
        try:
            crash_point("webhook.not_reported")
            await rpc.invoke(self._orders.RecordPayment, request, step="orders.RecordPayment")
            crash_point("webhook.reported")
        except Problem as problem:
            if problem.code in _HOPELESS:
                raise Park(problem.detail) from problem
            raise

        async def effect(connection: Connection) -> None:
            await payments.set_intent(connection, payment.id, intent["id"], intent["client_secret"])
            await payments.set_state(connection, payment.id, PaymentState.SUCCEEDED)

        return effect

    def _moved(self, state: PaymentState) -> Callable[[Event], Awaitable[Effect]]:
        async def handle(event: Event) -> Effect:
            payment = await self._payment_of(event)

            async def effect(connection: Connection) -> None:
                await payments.set_intent(connection, payment.id, event.object["id"], event.object["client_secret"])
                await payments.set_state(connection, payment.id, state)

            return effect

        return handle

    async def _refund_changed(self, event: Event) -> Effect:
        """Stripe's word on a refund. One that we did not ask for has no row: somebody made it at Stripe."""
        async with self._database.connection() as connection:
            refund = await refunds.by_stripe_id(connection, event.object["id"])
            if refund is None and (refund_id := event.metadata.get("refund_id")):
                refund = await refunds.find(connection, refund_id)
        if refund is None:
            raise NotFound(f"Refund {event.object['id']} is not one of ours.")
        adopt_correlation(refund.correlation_id)
        known = refund

        async def effect(connection: Connection) -> None:
            await self._refunds.settle(connection, known, event.object["id"], event.object["status"])

        return effect

    async def _payment_of(self, event: Event) -> Payment:
        """The payment an intent belongs to, also when the event is faster than our own record of the intent."""
        async with self._database.connection() as connection:
            payment = await payments.by_intent(connection, event.object["id"])
            if payment is None and (payment_id := event.metadata.get("payment_id")):
                payment = await payments.find(connection, payment_id)
        if payment is None:
            raise NotFound(f"Payment intent {event.object['id']} is not one of ours.")
        adopt_correlation(payment.correlation_id)
        return payment
