"""Random sequences of what customers, staff, Stripe and the clock do, with faults: at the end all books agree.

Nothing happens by itself: that a webhook comes late, twice, out of order or never, that a job runs before or after it,
and that Stripe's answer is lost, are steps like any other. Real services on real databases, a sandbox for Stripe.
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.orders.support import Orders, key

SHOPPERS, ON_HAND, PIECES = 3, 4, 2

_KEPT = """
SELECT o.id::text,
       CASE WHEN o.paid_at IS NULL THEN 0 ELSE o.total END
       - coalesce((SELECT sum(r.amount) FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
                    WHERE r.order_id = o.id AND p.outcome = 'applied' AND r.failed_at IS NULL), 0)::bigint AS kept
  FROM orders o
"""
_DUE = """
UPDATE jobs SET run_at = now() WHERE state = 'queued' AND kind <> 'expire_order' AND kind NOT LIKE 'schedule:%'
"""
_LEFT = """
SELECT count(*) FROM jobs
 WHERE state IN ('queued', 'running', 'parked') AND kind <> 'expire_order' AND kind NOT LIKE 'schedule:%'
"""


@dataclass
class Shopper:
    """A guest with one cart: what they bought last, under which key."""

    http: httpx.AsyncClient
    keys: dict[str, str] = field(default_factory=key)
    checkout: dict[str, Any] | None = None


class Machine:
    """Each method is a step; a step that does not apply does nothing."""

    def __init__(self, orders: Orders, variant: uuid.UUID) -> None:
        self.orders = orders
        self.variant = variant
        self.shoppers = [Shopper(orders.guest()) for _ in range(SHOPPERS)]
        self.staff = orders.staff("orders", "refunds", "operations")

    async def buy(self, who: Shopper) -> None:
        """Fills the cart and orders it; out of stock is an answer."""
        await who.http.post("/api/cart/items", json={"variant_id": str(self.variant), "quantity": PIECES})
        who.keys = key()
        await self.click(who)

    async def click(self, who: Shopper) -> None:
        """The same click again: what was answered once is answered for ever."""
        answer = await self.orders.checkout(who.http, headers=who.keys)
        assert answer.status_code in {201, 409, 503}, answer.text
        if answer.status_code == 201:
            who.checkout = answer.json()

    async def pay(self, who: Shopper) -> None:
        """At Stripe, as often as one likes."""
        if who.checkout is not None:
            path = f"/_sandbox/payment_intents/{who.checkout['payment']['payment_intent_id']}/pay"
            await self.orders.sandbox.http.post(path, json={"card": "4242424242424242"})

    async def cancel(self, who: Shopper) -> None:
        """Wishes the order away."""
        if who.checkout is not None:
            path, query = f"/api/checkout/{who.checkout['id']}/cancel", {"token": who.checkout["checkout_token"]}
            answer = await who.http.post(path, params=query)
            assert answer.status_code in {200, 409, 503}, answer.text

    async def refund(self, who: Shopper) -> None:
        """Staff send a dollar back."""
        await self._desk(who, "refund", {"amount": {"amount": 100, "currency": "USD"}, "reason": "Sorry."})

    async def refund_all(self, who: Shopper) -> None:
        """Staff send back all that is left."""
        await self._desk(who, "refund", {"reason": "Sorry."})

    async def fulfil(self, who: Shopper) -> None:
        """Staff hand the order to a carrier."""
        await self._desk(who, "fulfil", {})

    async def end(self, who: Shopper) -> None:
        """Staff end the order."""
        await self._desk(who, "cancel", {"reason": "Nobody answers."})

    async def _desk(self, who: Shopper, action: str, body: dict[str, Any]) -> None:
        if who.checkout is not None:
            path = f"/api/admin/orders/{who.checkout['id']}/{action}"
            answer = await self.staff.post(path, json=body, headers=key())
            assert answer.status_code in {200, 202, 409, 422, 503}, answer.text

    async def expire(self, who: Shopper) -> None:
        """The time of an order is up."""
        if who.checkout is not None:
            await self.orders.execute(
                "UPDATE orders SET hold_expires_at = now() - interval '1 minute' WHERE id = $1", who.checkout["id"]
            )
            await self.orders.runtime.worker._schedules["expired_holds"].call(datetime.now(UTC))

    async def hear(self, _who: Shopper) -> None:
        """What Stripe has said is handed over."""
        await self.orders.deliver()

    async def hear_again(self, _who: Shopper) -> None:
        """All of it once more, oldest first."""
        await self.orders.deliver(again=True)

    async def lose(self, _who: Shopper) -> None:
        """What Stripe has said since is never heard of; the reconciler has to find it."""
        await self.orders._all_sent()
        self.orders.delivered.extend(self.orders.sandbox.receiver.received)

    async def work(self, _who: Shopper) -> None:
        """Orders does its jobs, those that failed too."""
        await self.orders.execute(_DUE)
        await self.orders.work()

    async def work_payments(self, _who: Shopper) -> None:
        """Payments does."""
        await self.orders.runtimes["payments-webhooks"].worker.run_until_idle()

    async def lose_answer(self, _who: Shopper) -> None:
        """Stripe does the next thing it is told, and says that it had an error."""
        await self.orders.sandbox.fault(on="api", fault="500", times=1, method="POST")

    async def refuse_answer(self, _who: Shopper) -> None:
        """Stripe has an error before it does the next thing."""
        await self.orders.sandbox.fault(on="api", fault="500_before_effect", times=1, method="POST")

    async def rest(self) -> None:
        """Faults end, lost events are found, every job is run; whoever has not paid by then is out of time."""
        await self.orders.sandbox.http.delete("/_sandbox/faults")
        await self.orders.execute("UPDATE orders SET hold_expires_at = now() - interval '1 minute'")
        for _ in range(4):
            answer = await self.staff.post("/api/admin/payments/reconcile", json={})
            assert answer.status_code == 202, answer.text
            for service in ("payments-webhooks", "orders"):
                async with self.orders.runtimes[service].database.connection() as connection:
                    await connection.execute(_DUE)
            await self.orders.settle()
            await self.orders.runtime.worker._schedules["expired_holds"].call(datetime.now(UTC))
            await self.orders.settle()

    async def check(self) -> None:
        """Charges = paid orders - refunds; on hand + sold = initial, none held; one confirmation per order sold."""
        orders = self.orders
        for service in ("payments-webhooks", "orders"):
            assert await orders.elsewhere(service, _LEFT) == 0, service
        ledger = (await orders.sandbox.get("/_sandbox/ledger"))["orders"]
        at_stripe = {order: account["charged"] - account["refunded"] for order, account in ledger.items()}
        async with orders.runtime.database.connection() as connection:
            ours = {row["id"]: row["kept"] for row in await connection.fetch(_KEPT)}
            sold = {
                row["id"] for row in await connection.fetch("SELECT id::text FROM orders WHERE stock = 'committed'")
            }
        assert {order: kept for order, kept in at_stripe.items() if kept} == {
            order: kept for order, kept in ours.items() if kept
        }
        assert await orders.value("SELECT count(*) FROM orders WHERE status = 'pending'") == 0
        gone = await orders.shop.fetch(
            "SELECT coalesce(sum(quantity), 0)::bigint AS sold FROM sales WHERE variant_id = $1", self.variant
        )
        on_hand, held = await orders.shop.counts(self.variant)
        assert (on_hand + gone[0]["sold"], held) == (ON_HAND, 0)
        confirmed = [name for name in await orders.mails() if name.startswith("order-confirmation:")]
        assert sorted(confirmed) == sorted(f"order-confirmation:{order}" for order in sold)
        refunds = "SELECT count(*) FROM refund_requests WHERE actor LIKE 'staff:%'"
        audited = "SELECT count(*) FROM audit_entries WHERE action = 'order.refunded'"
        assert await orders.value(refunds) == await orders.value(audited)


STEPS: tuple[tuple[str, int], ...] = (
    ("buy", 4),
    ("pay", 4),
    ("click", 1),
    ("cancel", 2),
    ("expire", 2),
    ("refund", 2),
    ("refund_all", 1),
    ("fulfil", 1),
    ("end", 1),
    ("hear", 3),
    ("hear_again", 1),
    ("lose", 1),
    ("work", 3),
    ("work_payments", 3),
    ("lose_answer", 1),
    ("refuse_answer", 1),
)
sequences = st.lists(
    st.tuples(st.sampled_from([name for name, weight in STEPS for _ in range(weight)]), st.integers(0, SHOPPERS - 1)),
    min_size=4,
    max_size=16,
)


async def play(orders: Orders, sequence: list[tuple[str, int]]) -> None:
    """One shelf, three shoppers, and whatever happens."""
    machine = Machine(orders, await orders.shop.variant(ON_HAND, price=1000))
    for name, index in sequence:
        step: Callable[[Shopper], Awaitable[None]] = getattr(machine, name)
        await step(machine.shoppers[index])
    await machine.rest()
    await machine.check()


_HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # shrinking takes minutes: the long run does
    suppress_health_check=_HEALTH,
)
@given(sequence=sequences)
async def test_the_books_agree_whatever_happens(shop_orders: Orders, sequence: list[tuple[str, int]]) -> None:
    """A few sequences, the same in every run."""
    await play(shop_orders, sequence)


@pytest.mark.long
@settings(max_examples=60, deadline=None, suppress_health_check=_HEALTH)
@given(sequence=sequences)
async def test_the_books_agree_whatever_happens_for_minutes(
    shop_orders: Orders, sequence: list[tuple[str, int]]
) -> None:
    """Many, and others each time; `make fuzz`."""
    await play(shop_orders, sequence)
