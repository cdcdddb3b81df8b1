"""The purchase, made as hard as the outside world makes it."""

import asyncio
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.local.demo.observe import Observer
from deploy.local.demo.report import Report
from deploy.local.demo.shopper import Shopper, Staff, eventually
from deploy.local.demo.tree import build
from deploy.local.endpoints import Endpoints

__all__ = ["Story"]

Json = dict[str, Any]

QUANTITY = 2
COPIES = 5
CLICKS = 20
_SPAN_DELAY = 3.0
PURCHASE_SERVICES = {"gateway", "orders", "catalog", "payments-webhooks", "notifications"}


class Story:
    """Buys, clicks twice, replays webhooks, sends a campaign; each promise goes into the report."""

    def __init__(self, endpoints: Endpoints, logs: Path, report: Report) -> None:
        self._endpoints = endpoints
        self._logs = logs
        self._report = report
        self._see = Observer(endpoints, logs)

    async def tell(self) -> None:
        """From an empty cart to the report."""
        shopper, staff = Shopper(self._endpoints), Staff(self._endpoints)
        self._report.correlation_id = shopper.correlation_id
        try:
            await staff.sign_in()
            variant, stock = await self._fill_cart(shopper)
            checkout = await self._click_twice(shopper)
            await self._pay(shopper, checkout)
            await self._look(shopper, checkout, variant, stock)
            await self._campaign(staff)
            await self._trace(shopper, staff)
        finally:
            await shopper.close()
            await staff.close()

    async def _fill_cart(self, shopper: Shopper) -> tuple[str, int]:
        chosen = await shopper.choose(at_least=QUANTITY)
        variant = str(chosen["variant"]["id"])
        on_hand, _ = await self._see.on_hand(variant)
        self._report.step(
            f"{QUANTITY} x {chosen['product']['title']} into the cart, under correlation id {shopper.correlation_id}"
        )
        (await shopper.add(variant, QUANTITY)).raise_for_status()
        return variant, on_hand

    async def _click_twice(self, shopper: Shopper) -> Json:
        self._report.step("clicking *order* twice at once with one Idempotency-Key, then once more")
        key = str(uuid.uuid4())
        first, second = await asyncio.gather(shopper.checkout_until_answered(key), shopper.checkout_until_answered(key))
        third = await shopper.checkout(key)
        answers = {str(sorted(answer.items())) for answer in (first, second, third.json())}
        self._report.promise("three clicks, one answer", 1, len(answers))
        self._report.promise("the third is a replay", "true", third.headers.get("idempotent-replayed"))
        return first

    async def _pay(self, shopper: Shopper, checkout: Json) -> None:
        intent = checkout["payment"]["payment_intent_id"]
        self._report.step(f"paying; Stripe sends payment_intent.succeeded {COPIES} times at once")
        await shopper.order_fault(
            on="webhook", fault="duplicate", type="payment_intent.succeeded", payment_intent=intent, copies=COPIES
        )
        (await shopper.pay(checkout)).raise_for_status()
        await shopper.wait_for(checkout, "paid")
        events = await eventually(lambda: self._events(shopper, intent), "the webhooks to be delivered")
        self._report.step("and again, late: payment_intent.created once more, then succeeded 5 times at once")
        await shopper.redeliver(events["payment_intent.created"], 1)
        await shopper.redeliver(events["payment_intent.succeeded"], COPIES)

    async def _events(self, shopper: Shopper, intent: str) -> dict[str, str]:
        """The ids of the events about an intent, once both are delivered as often as ordered; before that nothing."""
        delivered = [each for each in await shopper.deliveries(intent) if each["status"] == 200]
        counts = Counter(each["type"] for each in delivered)
        if counts["payment_intent.succeeded"] < COPIES or counts["payment_intent.created"] < 1:
            return {}
        return {each["type"]: each["event_id"] for each in delivered}

    async def _look(self, shopper: Shopper, checkout: Json, variant: str, stock: int) -> None:
        order, intent = checkout["order_id"], checkout["payment"]["payment_intent_id"]
        await eventually(lambda: self._see.messages(to=shopper.email), "the confirmation mail")
        await eventually(lambda: self._settled(checkout), "the last jobs")
        promise = self._report.promise
        cart_orders = "SELECT count(*) FROM orders WHERE cart_id = (SELECT cart_id FROM orders WHERE id = $1)"
        promise("one order", 1, await self._see.value("orders", cart_orders, order))
        account = (await self._see.ledger())["orders"][order]
        promise("one charge", 1, account["charges"])
        promise("of the order's total", checkout["total"]["amount"], account["charged"])
        promise("one payment intent", [intent], account["payment_intents"])
        promise("stock moved once", (stock - QUANTITY, 0), await self._see.on_hand(variant))
        promise("one mail", 1, len(await self._see.messages(to=shopper.email)))
        received = await self._see.value(
            "payments-webhooks",
            "SELECT count(*) FROM inbox WHERE object_key = $1 AND event_type = 'payment_intent.succeeded'",
            intent,
        )
        deliveries = [each for each in await shopper.deliveries(intent) if each["type"] == "payment_intent.succeeded"]
        promise(f"{len(deliveries)} deliveries, one event in the inbox", 1, received)

    async def _silent(self, shopper: Shopper) -> set[str]:
        """Services without a log line of the purchase, after giving buffers a moment to be written."""

        async def all_speak() -> bool:
            return not PURCHASE_SERVICES - set(self._see.log_lines(shopper.correlation_id))

        with suppress(TimeoutError):
            await eventually(all_speak, "log lines", seconds=10)
        return PURCHASE_SERVICES - set(self._see.log_lines(shopper.correlation_id))

    async def _settled(self, checkout: Json) -> bool:
        query = "SELECT stock = 'committed' FROM orders WHERE id = $1"
        return bool(await self._see.value("orders", query, checkout["order_id"]))

    async def _campaign(self, staff: Staff) -> None:
        name = f"Demo {uuid.uuid4().hex[:8]}"
        campaign = await staff.draft_campaign(name)
        self._report.step(f"clicking *send campaign* {CLICKS} times at once")
        clicks = await asyncio.gather(*(staff.send_campaign(campaign) for _ in range(CLICKS)))
        statuses = Counter(click.status_code for click in clicks)
        self._report.promise(
            f"{CLICKS} clicks: one sends, {CLICKS - 1} are told 429", {202: 1, 429: CLICKS - 1}, dict(statuses)
        )

        async def finished() -> Json | None:
            stats = await staff.campaign_stats(campaign)
            return stats if stats["status"] == "finished" else None

        stats = await eventually(finished, "the campaign to finish", seconds=60)
        mails = Counter(message["to"][0] for message in await self._see.messages(subject=name))
        self._report.promise("every recipient got the mail", stats["recipients"], len(mails))
        self._report.promise("nobody got it twice", 1, max(mails.values(), default=0))

    async def _trace(self, shopper: Shopper, staff: Staff) -> None:
        async def complete() -> bool:
            traces = await staff.traces(shopper.correlation_id)
            seen = {span["service"] for trace in traces for span in trace["spans"]}
            return seen >= PURCHASE_SERVICES

        with suppress(TimeoutError):
            await eventually(complete, "the spans of every service", seconds=15)
        await asyncio.sleep(_SPAN_DELAY)  # the first span of a service tells that its others are on their way
        traces = await staff.traces(shopper.correlation_id)
        roots = build(traces)
        seen: set[str] = set().union(*(root.services() for root in roots))
        self._report.promise("one correlation id finds every service's spans", set(), PURCHASE_SERVICES - seen)
        self._report.promise("and their log lines", set(), await self._silent(shopper))
        (mail,) = (await self._see.messages(to=shopper.email))[:1]
        self._report.promise("and the mail", shopper.correlation_id, mail["headers"].get("X-Correlation-ID"))
        self._report.tree([root for root in roots if "checkout" in root.name or len(root.services()) > 2])
