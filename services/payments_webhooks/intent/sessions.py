"""What Stripe tells about its hosted pages. That money came, the intent's own events say as well: either is enough."""

from collections.abc import Mapping

from reliability.errors import NotFound
from reliability.ids import is_id
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.intent import repository
from services.payments_webhooks.intent.domain import Payment, PaymentState
from services.payments_webhooks.intent.events import IntentEvents
from services.payments_webhooks.webhook.domain import Event
from services.payments_webhooks.webhook.effects import Effect, Handler

__all__ = ["SessionEvents"]


class SessionEvents:
    """Handlers of `checkout.session.*`."""

    def __init__(self, database: Database, intents: IntentEvents) -> None:
        self._database = database
        self._intents = intents

    def handlers(self) -> Mapping[str, Handler]:
        """By event type."""
        return {
            "checkout.session.completed": self._completed,
            "checkout.session.async_payment_succeeded": self._completed,
            "checkout.session.async_payment_failed": self._completed,
            "checkout.session.expired": self._expired,
        }

    async def _completed(self, event: Event) -> Effect:
        """The page was filled in. Whether it is paid by now is asked of Stripe, for events come in any order."""
        payment, session = await self._payment_of(event), event.object
        return await self._intents.settled(payment, str(session["payment_intent"]))

    async def _expired(self, event: Event) -> Effect:
        payment = await self._payment_of(event)

        async def effect(connection: Connection) -> None:
            await repository.set_session(connection, payment.id, event.object["id"], event.object["url"] or "")
            await repository.set_state(connection, payment.id, PaymentState.CANCELED)

        return effect

    async def _payment_of(self, event: Event) -> Payment:
        """The payment a page belongs to, also when Stripe is faster than our own record of it. Raises `NotFound`."""
        async with self._database.connection() as connection:
            payment = await repository.by_session(connection, event.object["id"])
            if payment is None and is_id(payment_id := event.metadata.get("payment_id", "")):
                payment = await repository.find(connection, payment_id)
        if payment is None:
            raise NotFound(f"Checkout session {event.object['id']} is not one of ours.")
        adopt_correlation(payment.correlation_id)
        return payment
