"""Asks Stripe for everything since the watermark, minus an hour, and takes in what never arrived.

events listed (newest first, page by page), unknown ones into the inbox       (a transaction a page)
intents listed, and open payments of ours looked at; what differs is mended   (a transaction a page)
subscriptions looked at, each once a day                                      (a transaction)
watermark moved on                                                            (transaction, the last)

What is missing goes through the inbox, so that the handlers of the webhook act, once. A crash anywhere leaves the
watermark where it was: the next run finds less to do. Two runs at once find the same, and the inbox takes it once.
"""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import stripe
from opentelemetry import metrics

from reliability import audit, inbox, jobs
from reliability.crash_points import crash_point
from reliability.inbox import Received
from reliability.jobs import Job, Run
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from services.payments_webhooks.intent import repository as payments
from services.payments_webhooks.intent.domain import Payment
from services.payments_webhooks.reconcile import repository
from services.payments_webhooks.reconcile.domain import (
    Difference,
    Drift,
    compare,
    compare_page,
    lost,
    mending,
    mending_page,
)
from services.payments_webhooks.reconcile.repository import DriftRow
from services.payments_webhooks.reconcile.subscriptions import compare_invoice, compare_subscription, gone
from services.payments_webhooks.stripe_api import LISTED, Stripe
from services.payments_webhooks.subscription import repository as subscriptions
from services.payments_webhooks.subscription.domain import Subscription
from services.payments_webhooks.webhook import repository as events
from services.payments_webhooks.webhook.domain import parse
from services.payments_webhooks.webhook.events import HANDLED
from services.payments_webhooks.webhook.service import PROCESS_EVENT, SOURCE

__all__ = ["RECONCILE", "ReconcileService"]

RECONCILE = "reconcile"

_OVERLAP: Final = timedelta(hours=1)
"""Events are listed by when they were created, and may be listed later than that."""
_OPEN_AT_ONCE: Final = 100
_SUBSCRIPTION_EVERY: Final = timedelta(days=1)
_REACH: Final = LISTED - timedelta(hours=1)

_log = get_logger(__name__)
_meter = metrics.get_meter("holdfast")
_drift = _meter.create_counter(
    "holdfast.payments.drift", description="Differences found between Stripe's books and ours, by kind and repair"
)
_until = _meter.create_gauge(
    "holdfast.payments.reconciled_until", unit="s", description="The watermark, as seconds since the epoch"
)


class ReconcileService:
    """`grace` are the seconds a webhook has to arrive by itself before its absence is drift."""

    def __init__(self, database: Database, stripe: Stripe, grace: float) -> None:
        self._database = database
        self._stripe = stripe
        self._grace = timedelta(seconds=grace)

    async def run(self, now: datetime) -> Run:
        """One comparison, as of `now`: how many differences it found, and how many of them it could not mend."""
        until = now - self._grace
        since = await self._since(until)
        found = [*await self._missed(since, until), *await self._listed(since, until), *await self._open()]
        found += await self._subscribed()
        crash_point("reconcile.not_noted")
        async with self._database.transaction("reconciled") as connection:
            await repository.advance(connection, until)
        return Run(len(found), sum(not each.repaired for each in found))

    async def observe(self) -> None:
        """Measures the watermark; nothing before the first run."""
        async with self._database.connection() as connection:
            watermark = await repository.watermark(connection)
        if watermark is not None:
            _until.set(watermark.timestamp())

    async def request(self, staff_id: str) -> None:
        """Lets a worker do it soon; who asks need not wait."""
        async with self._database.transaction("request reconciliation") as connection:
            await audit.record(connection, staff_id, "payments.reconciled", "stripe")
            await jobs.enqueue(connection, RECONCILE, {}, order_key=RECONCILE, max_attempts=3)

    async def requested(self, job: Job) -> None:
        """Runs what was requested."""
        await self.run(datetime.now(UTC))
        async with self._database.transaction("reconciliation done") as connection:
            await job.complete(connection)

    async def drift(self, limit: int, before: int | None) -> list[DriftRow]:
        """What was found so far, newest first."""
        async with self._database.connection() as connection:
            return await repository.page(connection, limit, before)

    async def _since(self, until: datetime) -> datetime:
        """Where to begin: at the watermark minus the overlap, or at the oldest that Stripe still lists."""
        oldest = until - _REACH
        async with self._database.transaction("begin reconciliation") as connection:
            watermark = await repository.watermark(connection)
            if watermark is not None and watermark < oldest:
                lost = Difference(
                    Drift.BEYOND_REACH, "events", watermark.isoformat(), oldest.isoformat(), repaired=False
                )
                await _report(connection, [lost])
        return oldest if watermark is None else max(oldest, watermark - _OVERLAP)

    async def _missed(self, since: datetime, until: datetime) -> list[Difference]:
        """Takes in the events that never arrived, of those that Stripe was to send."""
        found: list[Difference] = []
        async for page in self._stripe.events.pages(since, until):
            async with self._database.transaction("take in events") as connection:
                here = await events.known(connection, SOURCE, [event.id for event in page])
                # Oldest first: events of one object are handled in the order they were stored.
                missing = [event for event in reversed(page) if event.type in HANDLED and event.id not in here]
                found += await _report(connection, [await _take_in(connection, event) for event in missing])
            crash_point("reconcile.page_stored")
        return found

    async def _listed(self, since: datetime, until: datetime) -> list[Difference]:
        """Compares the intents that Stripe made meanwhile."""
        found: list[Difference] = []
        async for page in self._stripe.intents.pages(since, until):
            intents = {intent.id: intent.to_dict() for intent in page}
            async with self._database.transaction("compare intents") as connection:
                ours = await payments.by_intents(connection, list(intents))
                found += await _mend(connection, ours, intents)
        return found

    async def _open(self) -> list[Difference]:
        """Compares the open payments that were not looked at for the longest time, however old they are."""
        async with self._database.connection() as connection:
            ours = await payments.live_unchecked(connection, _OPEN_AT_ONCE, _OVERLAP)
        intents: dict[str, dict[str, Any]] = {}
        pages: dict[str, dict[str, Any]] = {}
        unknown: list[Difference] = []
        for payment in ours:
            if payment.payment_intent_id is not None:
                there, of = await _at_stripe(self._stripe.intents.retrieve(payment.payment_intent_id)), intents
            elif payment.session_id is not None:
                there, of = await _at_stripe(self._stripe.sessions.retrieve(payment.session_id)), pages
            else:
                continue
            if there is None:
                unknown.append(lost(payment))
            else:
                of[there["id"]] = there
        async with self._database.transaction("compare open payments") as connection:
            await payments.set_checked(connection, [payment.id for payment in ours])
            found = await _report(connection, unknown)
            found += await _mend(connection, [each for each in ours if each.payment_intent_id in intents], intents)
            return [*found, *await _mend_pages(connection, [each for each in ours if each.session_id in pages], pages)]

    async def _subscribed(self) -> list[Difference]:
        """Compares the subscriptions that were not looked at for the longest time, however old they are."""
        async with self._database.connection() as connection:
            ours = await subscriptions.live_unchecked(connection, _OPEN_AT_ONCE, _SUBSCRIPTION_EVERY)
        stripes = {each.id: await _at_stripe(self._stripe.subscriptions.retrieve(str(each.stripe_id))) for each in ours}
        async with self._database.transaction("compare subscriptions") as connection:
            await subscriptions.set_checked(connection, list(stripes))
            on_the_way = await events.unfinished(connection, SOURCE, [str(each.stripe_id) for each in ours])
            quiet = [each for each in ours if each.stripe_id not in on_the_way]
            return await _mend_subscriptions(connection, quiet, stripes)


async def _at_stripe(asked: "Awaitable[stripe.StripeObject]") -> dict[str, Any] | None:
    """What Stripe has; None for what it does not know: one such thing must not keep the others from being looked at."""
    try:
        return (await asked).to_dict()
    except stripe.InvalidRequestError:
        return None


async def _take_in(connection: Connection, event: stripe.Event) -> Difference:
    """An event that never arrived, stored as if it had."""
    body = orjson.dumps(event.to_dict(for_json=True))
    received = Received(SOURCE, event.id, event.type, parse(body).object_key, body)
    await inbox.receive(connection, received, job=PROCESS_EVENT)
    return Difference(Drift.MISSING_EVENT, event.id, "", event.type, repaired=True)


async def _mend(
    connection: Connection, ours: Sequence[Payment], intents: Mapping[str, Mapping[str, Any]]
) -> list[Difference]:
    """Puts into the inbox what brings our payments to where Stripe is, unless something there is about to."""
    on_the_way = await events.unfinished(connection, SOURCE, list(intents))
    differences = []
    for payment in ours:
        intent = intents[payment.payment_intent_id or ""]
        difference = None if intent["id"] in on_the_way else compare(payment, intent)
        if difference is None:
            continue
        differences.append(difference)
        if difference.repaired:
            event_id, event_type, body = mending(intent)
            await inbox.receive(
                connection, Received(SOURCE, event_id, event_type, intent["id"], body), job=PROCESS_EVENT
            )
    return await _report(connection, differences)


async def _mend_pages(
    connection: Connection, ours: Sequence[Payment], pages: Mapping[str, Mapping[str, Any]]
) -> list[Difference]:
    """The same for payments of which there is no more than a hosted page."""
    differences = []
    for payment in ours:
        page = pages[payment.session_id or ""]
        difference = compare_page(payment, page)
        if difference is not None:
            differences.append(difference)
            event_id, event_type, body = mending_page(page)
            received = Received(SOURCE, event_id, event_type, parse(body).object_key, body)
            await inbox.receive(connection, received, job=PROCESS_EVENT)
    return await _report(connection, differences)


async def _mend_subscriptions(
    connection: Connection, ours: Sequence[Subscription], stripes: Mapping[str, Mapping[str, Any] | None]
) -> list[Difference]:
    """The same for subscriptions and the last invoice of each."""
    differences = []
    for subscription in ours:
        there = stripes[subscription.id]
        if there is None:
            differences.append(gone(subscription))
            continue
        latest = there.get("latest_invoice")
        known = await subscriptions.find_invoice(connection, latest["id"]) if isinstance(latest, Mapping) else None
        for mended in (compare_subscription(subscription, there), compare_invoice(subscription, known, there)):
            if mended is not None:
                difference, event_id, event_type, body = mended
                differences.append(difference)
                received = Received(SOURCE, event_id, event_type, parse(body).object_key, body)
                await inbox.receive(connection, received, job=PROCESS_EVENT)
    return await _report(connection, differences)


async def _report(connection: Connection, differences: Sequence[Difference]) -> list[Difference]:
    """Writes down, counts and logs those that are new."""
    new = [each for each in differences if await repository.note(connection, each)]
    for each in new:
        _drift.add(1, {"kind": each.kind, "repaired": str(each.repaired).lower()})
        _log.warning("drift", kind=each.kind, subject=each.subject, ours=each.ours, stripes=each.stripes)
    return new
