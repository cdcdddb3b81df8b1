"""What Stripe tells about money that goes back, ours or somebody's who works in Stripe's dashboard."""

from collections.abc import Mapping

from reliability.errors import NotFound
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.intent.events import IntentEvents
from services.payments_webhooks.refund import repository
from services.payments_webhooks.refund.domain import Told
from services.payments_webhooks.refund.repository import Refund
from services.payments_webhooks.refund.service import RefundService
from services.payments_webhooks.stripe_api import Stripe
from services.payments_webhooks.webhook.domain import Event
from services.payments_webhooks.webhook.effects import NOTHING, Effect, Handler

__all__ = ["RefundEvents"]


class RefundEvents:
    """Handlers of `refund.*` and `charge.refunded`."""

    def __init__(self, database: Database, stripe: Stripe, intents: IntentEvents, service: RefundService) -> None:
        self._database = database
        self._stripe = stripe
        self._intents = intents
        self._service = service

    def handlers(self) -> Mapping[str, Handler]:
        """By event type."""
        return {
            "refund.created": self._changed,
            "refund.updated": self._changed,
            "refund.failed": self._changed,
            "charge.refunded": self._charge_refunded,
        }

    async def _changed(self, event: Event) -> Effect:
        """Stripe's word on a refund."""
        return await self._taken(event, str(event.object.get("payment_intent")), [Told.of(event.object)])

    async def _charge_refunded(self, event: Event) -> Effect:
        """Stripe's word on a charge; its refunds are asked for, as the event need not hold them."""
        intent_id = str(event.object.get("payment_intent"))
        refunds = await self._stripe.refunds.of_intent(intent_id)
        return await self._taken(event, intent_id, [Told.of(refund.to_dict()) for refund in refunds])

    async def _taken(self, event: Event, intent_id: str, told: list[Told]) -> Effect:
        known = [(each, await self._known(each)) for each in told]
        payment = None
        if any(refund is None for _, refund in known):
            payment = await self._intents.find(event, intent_id, {})
            if payment is None:
                return NOTHING  # an invoice's: its books are Stripe's

        async def effect(connection: Connection) -> None:
            for each, refund in known:
                row = refund or await repository.adopt(connection, payment, each) if payment else refund
                assert row is not None  # without a payment all of them were known
                await self._service.settle(connection, row, each.id, each.state, each.failure_reason)

        return effect

    async def _known(self, told: Told) -> Refund | None:
        async with self._database.connection() as connection:
            refund = await repository.by_stripe_id(connection, told.id)
            if refund is None and told.refund_id:
                refund = await repository.find(connection, told.refund_id)
        if refund is not None:
            adopt_correlation(refund.correlation_id)
        elif told.refund_id:
            raise NotFound(f"Refund {told.id} names one of ours that is not there.")
        return refund
