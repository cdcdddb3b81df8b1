"""What Stripe tells about disputes. Each event makes us ask how the dispute stands now, so their order is no matter."""

from collections.abc import Mapping
from datetime import UTC, datetime

import stripe
from opentelemetry import metrics

from reliability.logging import get_logger
from reliability.postgres import Connection
from services.payments_webhooks.dispute import repository
from services.payments_webhooks.dispute.repository import Dispute
from services.payments_webhooks.intent.domain import Payment
from services.payments_webhooks.intent.events import IntentEvents
from services.payments_webhooks.stripe_api import Stripe
from services.payments_webhooks.webhook.domain import Event
from services.payments_webhooks.webhook.effects import Effect, Handler

__all__ = ["DisputeEvents"]

_log = get_logger(__name__)
_changes = metrics.get_meter("holdfast").create_counter(
    "holdfast.payments.disputes", description="Disputes by the status they came to"
)


class DisputeEvents:
    """Handlers of `charge.dispute.*`."""

    def __init__(self, stripe: Stripe, intents: IntentEvents) -> None:
        self._stripe = stripe
        self._intents = intents

    def handlers(self) -> Mapping[str, Handler]:
        """By event type."""
        kinds = ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
        return {f"charge.dispute.{kind}": self._changed for kind in kinds}

    async def _changed(self, event: Event) -> Effect:
        dispute = await self._stripe.disputes.retrieve(event.object["id"])
        intent_id = str(dispute.payment_intent)
        payment = await self._intents.find(event, intent_id, {})

        async def effect(connection: Connection) -> None:
            before = await repository.upsert(connection, _dispute(dispute, intent_id, payment))
            if before != dispute.status:
                _changes.add(1, {"status": dispute.status})
                order_id = payment.order_id if payment else None
                _log.error("dispute_changed", dispute=dispute.id, order_id=order_id, before=before, now=dispute.status)

        return effect


def _dispute(dispute: stripe.Dispute, intent_id: str, payment: Payment | None) -> Dispute:
    due_by = dispute.evidence_details.due_by
    return Dispute(
        id=dispute.id,
        payment_id=payment.id if payment else None,
        payment_intent_id=intent_id,
        charge_id=str(dispute.charge),
        amount=dispute.amount,
        currency=dispute.currency.upper(),
        reason=dispute.reason,
        status=dispute.status,
        evidence_due_by=datetime.fromtimestamp(due_by, UTC) if due_by else None,
        opened_at=datetime.fromtimestamp(dispute.created, UTC),
    )
