"""What Stripe tells about subscriptions and their invoices.

Each event makes us ask how things stand now, so their order is no matter. What is answered is written only over what
was there when we asked: of two answers the later one stays.
"""

from collections.abc import Mapping

from reliability.errors import NotFound, Unavailable
from reliability.ids import is_id
from reliability.jobs import Park
from reliability.postgres import Connection, Database
from reliability.telemetry import adopt_correlation
from services.payments_webhooks.stripe_api import Stripe
from services.payments_webhooks.subscription import notices, repository
from services.payments_webhooks.subscription.domain import Invoice, Subscription, Told, notice_of_change
from services.payments_webhooks.webhook.domain import Event, subscription_of
from services.payments_webhooks.webhook.effects import Effect, Handler

__all__ = ["SubscriptionEvents", "record"]

_KINDS = ("created", "updated", "deleted", "paused", "resumed")


async def record(connection: Connection, subscription: Subscription, told: Told) -> Subscription | None:
    """Writes what Stripe said after `subscription` was read, with the mail it causes; None when it is out of date."""
    taken = await repository.take(connection, subscription, told)
    if taken is not None and (notice := notice_of_change(subscription.state, taken.state)):
        await notices.note(connection, notice, taken.id, taken.id)
    return taken


class SubscriptionEvents:
    """Handlers of `customer.subscription.*` and `invoice.*`."""

    def __init__(self, database: Database, stripe: Stripe) -> None:
        self._database = database
        self._stripe = stripe

    def handlers(self) -> Mapping[str, Handler]:
        """By event type."""
        return {
            **{f"customer.subscription.{kind}": self._changed for kind in _KINDS},
            "invoice.paid": self._billed,
            "invoice.payment_failed": self._billed,
        }

    async def _changed(self, event: Event) -> Effect:
        subscription = await self._find(event.object["id"], event.metadata)
        told = await self._told(event.object["id"])

        async def effect(connection: Connection) -> None:
            await _recorded(connection, subscription, told)

        return effect

    async def _billed(self, event: Event) -> Effect:
        """An invoice was paid or refused; by now it may have been paid after all."""
        invoice = (await self._stripe.invoices.retrieve(event.object["id"])).to_dict()
        stripe_id = subscription_of(invoice)
        if stripe_id is None:
            raise NotFound(f"Invoice {event.object['id']} is for no subscription: it is not one of ours.")
        kept = invoice["parent"]["subscription_details"]["metadata"] or {}
        subscription = await self._find(stripe_id, kept)
        told = await self._told(stripe_id)
        known = Invoice.of(invoice, subscription.id)

        async def effect(connection: Connection) -> None:
            await _recorded(connection, subscription, told)
            await repository.keep_invoice(connection, known)
            if notice := known.notice:
                await notices.note(connection, notice, subscription.id, known.notice_key, known.id)

        return effect

    async def _find(self, stripe_id: str, metadata: Mapping[str, str]) -> Subscription:
        """Our row, also when Stripe is faster than our own record of it. Raises `NotFound` for one that is nobody's."""
        async with self._database.connection() as connection:
            found = await repository.by_stripe_id(connection, stripe_id)
            if found is None and is_id(own := metadata.get("subscription_id", "")):
                found = await repository.find(connection, own)
        if found is None:
            raise NotFound(f"Subscription {stripe_id} is not one of ours.")
        if found.stripe_id not in {None, stripe_id}:
            raise Park(f"Subscription {found.id} is {found.stripe_id} at Stripe; {stripe_id} is another of that name.")
        adopt_correlation(found.correlation_id)
        return found

    async def _told(self, stripe_id: str) -> Told:
        return Told.of((await self._stripe.subscriptions.retrieve(stripe_id)).to_dict())


async def _recorded(connection: Connection, subscription: Subscription, told: Told) -> None:
    if await record(connection, subscription, told) is None:
        raise Unavailable("The subscription changed while Stripe was asked.")
