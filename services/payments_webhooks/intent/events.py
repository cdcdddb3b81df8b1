"""What Stripe tells about intents. Events come in any order: what is final is guarded, what is not is asked for."""

from collections.abc import Mapping
from typing import Any

from holdfast.common.v1 import money_pb2
from holdfast.orders.v1 import orders_pb2, orders_pb2_grpc
from reliability import rpc
from reliability.crash_points import crash_point
from reliability.errors import NotFound, Problem
from reliability.ids import is_id
from reliability.inbox import Known
from reliability.jobs import Park
from reliability.postgres import Database
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.intent import repository
from services.payments_webhooks.intent.domain import Payment, PaymentState, state_of_intent
from services.payments_webhooks.stripe_api import Stripe
from services.payments_webhooks.webhook.domain import Event
from services.payments_webhooks.webhook.effects import NOTHING, Effect, Handler, Told

__all__ = ["IntentEvents"]

_HOPELESS = {"amount_mismatch"}
_NOT_FINAL = {PaymentState.OPEN, PaymentState.PROCESSING}
_FINAL = [PaymentState.SUCCEEDED, PaymentState.CANCELED]


class IntentEvents:
    """Handlers of `payment_intent.*`."""

    def __init__(self, database: Database, stripe: Stripe, orders: "orders_pb2_grpc.OrdersServiceAsyncStub") -> None:
        self._database = database
        self._stripe = stripe
        self._orders = orders

    def handlers(self) -> Mapping[str, Handler]:
        """By event type."""
        return {
            "payment_intent.created": self._created,
            "payment_intent.succeeded": self._succeeded,
            "payment_intent.canceled": self._canceled,
            "payment_intent.processing": self._moved,
            "payment_intent.payment_failed": self._moved,
            "payment_intent.requires_action": self._moved,
            "payment_intent.partially_funded": self._moved,
            "payment_intent.amount_capturable_updated": self._moved,
        }

    def told(self) -> Mapping[str, Told]:
        """By event type, when it tells nothing new."""
        over = ("canceled", "processing", "payment_failed", "requires_action", "partially_funded")
        return {
            "payment_intent.created": lambda event: repository.recorded(event.object_key, list(PaymentState)),
            **{f"payment_intent.{kind}": _is_over for kind in (*over, "amount_capturable_updated")},
        }

    async def find(self, event: Event, intent_id: str, metadata: Mapping[str, str]) -> Payment | None:
        """The payment of the intent an event is about, also when Stripe is faster than our own record of it.

        None for an invoice's. Raises `NotFound` for an intent that is nobody's.
        """
        payment = event.payment
        if payment is None or payment.payment_intent_id != intent_id:
            payment = await self._look(intent_id, metadata)
        if payment is not None:
            adopt_correlation(payment.correlation_id)
        elif not await self._stripe.invoices.is_paid_by(intent_id):
            raise NotFound(f"Payment intent {intent_id} is not one of ours.")
        return payment

    async def _look(self, intent_id: str, metadata: Mapping[str, str]) -> Payment | None:
        async with self._database.connection() as connection:
            payment = await repository.by_intent(connection, intent_id)
            if payment is None and is_id(payment_id := metadata.get("payment_id", "")):
                payment = await repository.find(connection, payment_id)
        return payment

    async def _created(self, event: Event) -> Effect:
        payment = await self._payment_of(event)
        return NOTHING if payment is None else _known(payment, event.object)

    async def _succeeded(self, event: Event) -> Effect:
        """Money arrived: orders decides what becomes of it."""
        payment = await self._payment_of(event)
        if payment is None:
            return NOTHING  # the invoice's own event says it
        return await self._reported(payment, event.object)

    async def settled(self, payment: Payment, intent_id: str) -> Effect:
        """What becomes of a payment whose page was filled in: Stripe is asked how its intent stands."""
        intent = (await self._stripe.intents.retrieve(intent_id)).to_dict()
        state = state_of_intent(intent["status"])
        if state is PaymentState.SUCCEEDED:
            return await self._reported(payment, intent)
        return _known(payment, intent, state if state in _NOT_FINAL else None)

    async def _reported(self, payment: Payment, intent: Mapping[str, Any]) -> Effect:
        if payment.payment_intent_id != intent["id"]:
            payment = await self._row_of(payment, intent)
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
        return _known(payment, intent, PaymentState.SUCCEEDED)

    async def _canceled(self, event: Event) -> Effect:
        payment = await self._payment_of(event)
        return NOTHING if payment is None else _known(payment, event.object, PaymentState.CANCELED)

    async def _moved(self, event: Event) -> Effect:
        """What this event says may be over by now: Stripe is asked how things stand."""
        payment = await self._payment_of(event)
        if payment is None:
            return NOTHING
        if payment.state in _FINAL:
            return _known(payment, event.object)
        state = state_of_intent((await self._stripe.intents.retrieve(event.object["id"])).status)
        # `succeeded` and `canceled` have events of their own, and with the first goes the report to orders.
        return _known(payment, event.object, state if state in _NOT_FINAL else None)

    async def _payment_of(self, event: Event) -> Payment | None:
        return await self.find(event, event.object["id"], event.metadata)

    async def _row_of(self, payment: Payment, intent: Mapping[str, Any]) -> Payment:
        """The payment, when it can have this intent; another row when it has one, so that this can be sent back.

        Written before anybody is told: of two intents that were paid at once, both find a payment without one.
        """
        intent_id, client_secret = intent["id"], intent["client_secret"]
        async with self._database.transaction("row of intent") as connection:
            ours = await repository.set_intent(connection, payment.id, intent_id, client_secret)
            return ours or await repository.insert_stray(
                connection, payment, intent_id, client_secret, intent["amount_received"]
            )


def _is_over(event: Event) -> Known:
    """What ended stays so, whatever else is said of the intent."""
    return repository.recorded(event.object_key, _FINAL)


def _known(payment: Payment, intent: Mapping[str, Any], state: PaymentState | None = None) -> Effect:
    """Records the intent, unless it is known, and the state if there is one to record.

    What becomes of another intent of the same payment says nothing about ours.
    """
    if payment.payment_intent_id not in {None, intent["id"]}:
        return NOTHING
    new = payment.payment_intent_id is None or payment.client_secret is None
    if not new and state is None:
        return NOTHING
    return repository.take(payment.id, intent["id"], intent["client_secret"], state)
