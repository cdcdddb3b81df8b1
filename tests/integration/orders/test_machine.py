"""Whatever customers, staff, Stripe and the clock do, in any order, with faults: all books agree.

Nothing happens by itself: that a webhook comes late, twice, out of order or never, that a job runs before or after it,
and that Stripe's answer is lost, are steps like any other. Real services on real databases, a sandbox for Stripe.
What may never be seen is looked for after every step; when all has come to rest, charges = paid orders - refunds,
on hand + sold = initial with nothing held, and one confirmation for every order sold.
"""

import asyncio
import ipaddress
import secrets
import sys
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from reliability.circuit_breaker import breakers
from tests.integration.orders.support import Orders, key

T = TypeVar("T")

GUESTS, ON_HAND, PIECES = 2, 4, 2
CARDS = ("4242424242424242", "4000000000000002")
STEP_SECONDS = 60.0

_OURS = "EXISTS (SELECT FROM order_lines l WHERE l.order_id = o.id AND l.variant_id = $1)"
_BOOKS = f"""
SELECT o.id::text, o.status, o.stock, o.total, o.paid_at IS NOT NULL AS paid,
       coalesce((SELECT sum(p.amount) FROM order_payments p
                  WHERE p.order_id = o.id AND p.outcome = 'applied'), 0)::bigint AS applied,
       coalesce((SELECT sum(r.amount) FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
                  WHERE r.order_id = o.id AND p.outcome = 'applied' AND r.failed_at IS NULL), 0)::bigint AS returned
  FROM orders o WHERE {_OURS}
"""
_FORGOTTEN = "DELETE FROM jobs WHERE state <> 'done' AND kind NOT LIKE 'schedule:%'"
_DUE = """
UPDATE jobs SET run_at = now() WHERE state = 'queued' AND kind NOT LIKE 'schedule:%'
"""
_LEFT = """
SELECT kind, state, last_error FROM jobs
 WHERE state IN ('queued', 'running', 'parked') AND kind NOT LIKE 'schedule:%'
"""
_SERVICES = ("payments-webhooks", "orders")


@dataclass
class Shopper:
    """Somebody with one cart; a customer can pay on a page as well."""

    http: httpx.AsyncClient
    payments: httpx.AsyncClient | None = None
    email: str = "robin@example.com"
    keys: dict[str, str] = field(default_factory=key)


@dataclass(frozen=True)
class Bought:
    """What a shopper was answered."""

    who: Shopper
    checkout: dict[str, Any]


class Shop:
    """What may happen. A step that does not apply does nothing."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.staff = orders.staff("orders", "refunds", "operations")
        self.variant = uuid.UUID(int=0)
        self.shoppers: list[Shopper] = []

    async def open(self) -> None:
        """An empty shop with one full shelf; what another shop left undone is none of its business."""
        await self._clear()
        self.variant = await self.orders.shop.variant(ON_HAND, price=1000)
        self.shoppers = [Shopper(self.orders.guest()) for _ in range(GUESTS)]
        customer = self.orders.customer()
        payments = self.orders.client_for(self.orders.applications["payments-webhooks"])
        payments.headers["Authorization"] = customer.headers["Authorization"]
        self.shoppers.append(Shopper(customer, payments))
        for shopper in self.shoppers:  # an address may place so many orders a minute, and hundreds of shops open
            shopper.http.headers["X-Client-Address"] = str(ipaddress.IPv4Address(secrets.randbits(32)))

    async def _clear(self) -> None:
        await self.orders.sandbox.http.delete("/_sandbox/faults")
        await self.orders.begin_anew()
        for service in _SERVICES:
            await self._in(service, _FORGOTTEN)
        await self.orders.execute(
            "UPDATE orders SET status = 'cancelled', stock = 'released' WHERE status = 'pending' AND paid_at IS NULL"
        )
        self.pass_a_minute()

    async def _in(self, service: str, statement: str) -> None:
        async with self.orders.runtimes[service].database.connection() as connection:
            await connection.execute(statement)

    def pass_a_minute(self) -> None:
        """Breakers have closed."""
        for breaker in breakers():
            breaker.reset()

    async def buy(self, who: Shopper) -> Bought | None:
        """Fills the cart and orders it; out of stock is an answer."""
        await who.http.post("/api/cart/items", json={"variant_id": str(self.variant), "quantity": PIECES})
        who.keys = key()
        return await self.click(who)

    async def click(self, who: Shopper) -> Bought | None:
        """The same click again: what was answered once is answered for ever."""
        answer = await self.orders.checkout(who.http, headers=who.keys)
        assert answer.status_code in {201, 409, 429, 503}, answer.text
        return Bought(who, answer.json()) if answer.status_code == 201 else None

    async def pay(self, bought: Bought, card: str) -> None:
        """At Stripe, as often as one likes."""
        path = f"/_sandbox/payment_intents/{bought.checkout['payment']['payment_intent_id']}/pay"
        await self.orders.sandbox.http.post(path, json={"card": card})

    async def pay_on_page(self, bought: Bought, card: str, *, finish: bool) -> None:
        """Opens the hosted page instead, where the shopper is a customer, and pays there or goes away."""
        if bought.who.payments is None:
            return
        asked = {"order_id": bought.checkout["order_id"]}
        page = await bought.who.payments.post("/api/payments/checkout-sessions", json=asked, headers=key())
        assert page.status_code in {201, 409, 503}, page.text
        if finish and page.status_code == 201:
            session = page.json()["url"].rpartition("/")[2]
            await self.orders.sandbox.http.post(f"/_sandbox/checkout/sessions/{session}/pay", json={"card": card})

    async def cancel(self, bought: Bought) -> None:
        """Wishes the order away."""
        path, query = f"/api/checkout/{bought.checkout['id']}/cancel", {"token": bought.checkout["checkout_token"]}
        answer = await bought.who.http.post(path, params=query)
        assert answer.status_code in {200, 409, 503}, answer.text

    async def at_the_desk(self, bought: Bought, action: str, body: dict[str, Any]) -> None:
        """Staff do something with an order."""
        path = f"/api/admin/orders/{bought.checkout['id']}/{action}"
        answer = await self.staff.post(path, json=body, headers=key())
        assert answer.status_code in {200, 202, 409, 422, 503}, answer.text

    async def expire(self, bought: Bought, *, at_once: bool) -> None:
        """The time of an order is up; the job that ends it is run at once, or whenever orders does its jobs."""
        await self.orders.expire(bought.checkout["id"])
        if at_once:
            await self.work("orders")

    async def forget_hold(self, bought: Bought) -> None:
        """Orders was away for so long that the catalog has put the pieces back on sale."""
        catalog = self.orders.runtimes["catalog"]
        async with catalog.database.connection() as connection:
            await connection.execute(
                "UPDATE holds SET expires_at = now() - interval '10 days' WHERE order_id = $1 AND state = 'held'",
                bought.checkout["id"],
            )
        await catalog.worker._schedules["expire_holds"].call(datetime.now(UTC))

    async def hear(self, *, again: bool = False) -> None:
        """What Stripe has said is handed over, or all of it once more, oldest first."""
        await self.orders.deliver(again=again)

    async def lose(self) -> None:
        """What Stripe has said since is never heard of; the reconciler has to find it."""
        await self.orders._all_sent()
        self.orders.delivered.extend(self.orders.sandbox.receiver.received)

    async def work(self, service: str) -> None:
        """A service does its jobs, those that failed too."""
        await self._in(service, _DUE)
        await self.orders.runtimes[service].worker.run_until_idle()

    async def reconcile(self) -> None:
        """Staff have the books compared."""
        answer = await self.staff.post("/api/admin/payments/reconcile", json={})
        assert answer.status_code == 202, answer.text

    async def fault(self, kind: str) -> None:
        """The next thing Stripe is told goes wrong, before or after its effect."""
        await self.orders.sandbox.fault(on="api", fault=kind, times=1, method="POST")

    async def rest(self) -> None:
        """Faults end, lost events are found, every job is run; whoever has not paid by then is out of time."""
        await self.orders.sandbox.http.delete("/_sandbox/faults")
        await self.orders.execute("UPDATE orders SET hold_expires_at = now() - interval '1 minute'")
        for _ in range(4):
            self.pass_a_minute()
            await self.reconcile()
            for service in _SERVICES:
                await self._in(service, _DUE)
            await self.orders.settle()
            await self.orders.runtime.worker._schedules["expired_holds"].call(datetime.now(UTC))
            await self.orders.settle()

    async def books(self) -> dict[str, dict[str, Any]]:
        """Our orders, by id."""
        async with self.orders.runtime.database.connection() as connection:
            return {row["id"]: dict(row) for row in await connection.fetch(_BOOKS, self.variant)}

    async def at_stripe(self) -> dict[str, dict[str, int]]:
        """What was charged and sent back, by order."""
        ledger: dict[str, dict[str, int]] = (await self.orders.sandbox.get("/_sandbox/ledger"))["orders"]
        return ledger

    async def stock(self) -> tuple[int, int, int]:
        """Pieces on hand, held and sold."""
        gone = await self.orders.shop.fetch(
            "SELECT coalesce(sum(quantity), 0)::bigint AS sold FROM sales WHERE variant_id = $1", self.variant
        )
        on_hand, held = await self.orders.shop.counts(self.variant)
        return on_hand, held, gone[0]["sold"]

    async def confirmed(self) -> set[str]:
        """The orders of ours that were confirmed; the key of the mail is the order's, so that each is one."""
        prefix = "order-confirmation:"
        ours = await self.books()
        names = {name.removeprefix(prefix) for name in await self.orders.mails() if name.startswith(prefix)}
        return names & set(ours)

    async def never_wrong(self) -> None:
        """What may not be seen even for a moment."""
        # Ours first: what comes to Stripe between the two readings is only more.
        books, stripes = await self.books(), await self.at_stripe()
        for order, ours in books.items():
            theirs = stripes.get(order, {"charged": 0, "refunded": 0})
            assert 0 <= theirs["refunded"] <= theirs["charged"], order
            assert ours["applied"] == (ours["total"] if ours["paid"] else 0), order
            assert ours["applied"] <= theirs["charged"], f"{order} is paid with money that never came"
            assert ours["returned"] <= theirs["refunded"], f"{order} has sent back what is still here"
        on_hand, held, sold = await self.stock()
        assert on_hand + sold == ON_HAND
        assert 0 <= held <= on_hand
        committed = {order for order, ours in books.items() if ours["stock"] == "committed"}
        assert all(books[order]["paid"] for order in committed)
        assert await self.confirmed() <= committed

    async def right_in_the_end(self) -> None:
        """What holds when nothing is left to do."""
        await self.rest()
        for service in _SERVICES:
            async with self.orders.runtimes[service].database.connection() as connection:
                assert [dict(row) for row in await connection.fetch(_LEFT)] == [], service
        books, stripes = await self.books(), await self.at_stripe()
        kept = {order: ours["applied"] - ours["returned"] for order, ours in books.items()}
        assert kept == {
            order: theirs["charged"] - theirs["refunded"]
            for order in books
            for theirs in [stripes.get(order, {"charged": 0, "refunded": 0})]
        }
        assert {ours["status"] for ours in books.values()} <= {
            "paid",
            "fulfilled",
            "cancelled",
            "partially_refunded",
            "refunded",
        }
        on_hand, held, sold = await self.stock()
        assert (on_hand + sold, held) == (ON_HAND, 0)
        committed = {order for order, ours in books.items() if ours["stock"] == "committed"}
        assert await self.confirmed() == committed
        assert sold == PIECES * len(committed)
        refunds = "SELECT count(*) FROM refund_requests WHERE actor LIKE 'staff:%'"
        audited = "SELECT count(*) FROM audit_entries WHERE action = 'order.refunded'"
        assert await self.orders.value(refunds) == await self.orders.value(audited)


shoppers = st.integers(0, GUESTS)
cards = st.sampled_from(CARDS)


class Machine(RuleBasedStateMachine):
    """Hypothesis is not asynchronous: it plays in a thread, each step on the loop of the services."""

    orders: Orders
    loop: asyncio.AbstractEventLoop
    bought = Bundle("bought")

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop(self.orders)

    def do(self, step: Coroutine[Any, Any, T]) -> T:
        """Runs a step to its end."""
        return asyncio.run_coroutine_threadsafe(step, self.loop).result(STEP_SECONDS)

    @initialize()
    def open(self) -> None:
        self.do(self.shop.open())

    @rule(target=bought, who=shoppers)
    def buy(self, who: int) -> Any:
        return self._answered(self.do(self.shop.buy(self.shop.shoppers[who])))

    @rule(target=bought, who=shoppers)
    def click(self, who: int) -> Any:
        return self._answered(self.do(self.shop.click(self.shop.shoppers[who])))

    def _answered(self, bought: Bought | None) -> Any:
        return multiple() if bought is None else bought

    @rule(of=bought, card=cards)
    def pay(self, of: Bought, card: str) -> None:
        self.do(self.shop.pay(of, card))

    @rule(of=bought, card=cards, finish=st.booleans())
    def pay_on_page(self, of: Bought, card: str, finish: bool) -> None:
        self.do(self.shop.pay_on_page(of, card, finish=finish))

    @rule(of=bought)
    def cancel(self, of: Bought) -> None:
        self.do(self.shop.cancel(of))

    @rule(of=bought, cents=st.sampled_from([100, 500, None]))
    def refund(self, of: Bought, cents: int | None) -> None:
        amount = {"amount": {"amount": cents, "currency": "USD"}} if cents else {}
        self.do(self.shop.at_the_desk(of, "refund", {"reason": "Sorry.", **amount}))

    @rule(of=bought)
    def fulfil(self, of: Bought) -> None:
        self.do(self.shop.at_the_desk(of, "fulfil", {}))

    @rule(of=bought)
    def end(self, of: Bought) -> None:
        self.do(self.shop.at_the_desk(of, "cancel", {"reason": "Nobody answers."}))

    @rule(of=bought, at_once=st.booleans())
    def expire(self, of: Bought, at_once: bool) -> None:
        self.do(self.shop.expire(of, at_once=at_once))

    @rule(of=bought)
    def forget_hold(self, of: Bought) -> None:
        self.do(self.shop.forget_hold(of))

    @rule(again=st.booleans())
    def hear(self, again: bool) -> None:
        self.do(self.shop.hear(again=again))

    @rule()
    def lose(self) -> None:
        self.do(self.shop.lose())

    @rule(service=st.sampled_from(_SERVICES))
    def work(self, service: str) -> None:
        self.do(self.shop.work(service))

    @rule()
    def reconcile(self) -> None:
        self.do(self.shop.reconcile())

    @rule(kind=st.sampled_from(["500", "500_before_effect", "429", "connection_reset"]))
    def fault(self, kind: str) -> None:
        self.do(self.shop.fault(kind))

    @rule()
    def pass_a_minute(self) -> None:
        self.shop.pass_a_minute()

    @rule()
    def come_to_rest(self) -> None:
        self.do(self.shop.right_in_the_end())

    @invariant()
    def never_wrong(self) -> None:
        self.do(self.shop.never_wrong())

    def teardown(self) -> None:
        """Unless a step failed already, which then is what is to be told."""
        if sys.exc_info()[0] is None:
            self.do(self.shop.right_in_the_end())


_HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


async def play(shop_orders: Orders, how: settings) -> None:
    """Many shops, one after the other."""

    class Here(Machine):
        orders = shop_orders
        loop = asyncio.get_running_loop()

    await asyncio.to_thread(run_machine, Here, settings=how)


async def test_the_books_agree_whatever_happens(shop_orders: Orders) -> None:
    """A few sequences, the same in every run."""
    how = settings(
        max_examples=4,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate,),  # shrinking takes minutes: the long run does
        suppress_health_check=_HEALTH,
    )
    await play(shop_orders, how)


@pytest.mark.long
async def test_the_books_agree_whatever_happens_for_minutes(shop_orders: Orders) -> None:
    """Many, and others each time; `make fuzz`."""
    how = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=_HEALTH)
    await play(shop_orders, how)
