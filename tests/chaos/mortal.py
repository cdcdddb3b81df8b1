"""A system whose processes die where they are told to, and what is looked at afterwards.

Leases of the dead are made to run out in the database: that they do so by themselves is tested elsewhere, and
waiting for it would take half a minute a point.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncpg
import httpx
import pytest
import pytest_asyncio

from deploy.local.databases import database_of, database_url
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, Staff, eventually
from deploy.local.ports import SERVICES, pick_port_base
from deploy.local.system import System
from reliability.context import Principal
from reliability.ids import new_id
from reliability.testing.crash import CrashPoints
from services.accounts.keys.service import SigningKeys
from tests.chaos.points import DIES

T = TypeVar("T")

# A retry is due in minutes; what shall be asked again tomorrow is not left over today.
UNFINISHED = """
    SELECT kind, state, attempt, last_error FROM jobs
     WHERE state IN ('queued', 'running', 'parked') AND kind NOT LIKE 'schedule:%'
       AND created_at >= $1 AND (state <> 'queued' OR run_at < now() + interval '10 minutes')
"""
# What a customer asks of a service that the tests go on with.
_PAGES = {"catalog": "/api/products", "orders": "/api/appointments/services"}


@dataclass(frozen=True)
class Mortal:
    """A system whose processes die where they are told to."""

    system: System
    points: CrashPoints
    observer: Observer
    since: datetime

    @asynccontextmanager
    async def dying(self, service: str, point: str) -> AsyncIterator[None]:
        """Arms the point; the block does what leads there, and waits for who comes after the dead if it must."""
        before = self.system.pid(service)
        self.points.arm(point)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.death(service, point))
            yield
        await asyncio.to_thread(self.system.wait_until_ready, service, not_pid=before)
        if service in _PAGES:
            await self._back_behind_the_gateway(_PAGES[service])

    async def _back_behind_the_gateway(self, page: str) -> None:
        """Until the gateway, too, has noticed who came after the dead."""
        async with httpx.AsyncClient(base_url=self.system.endpoints.gateway) as anybody:

            async def answered() -> bool:
                with suppress(httpx.HTTPError):
                    return (await anybody.get(page)).status_code == 200
                return False

            await eventually(answered, f"{page} behind the gateway", seconds=30)

    async def death(self, service: str, point: str, *, again: bool = False) -> None:
        """Waits for it, and ends the leases that the dead one left. `again`: the next one that passes dies too."""
        await self.points.fired(point)
        if again:
            self.points.arm(point)
        async with self.database(service) as connection:
            await connection.execute("UPDATE jobs SET lease_until = now() WHERE state = 'running'")
            if service in {"orders", "payments-webhooks"}:
                await connection.execute("UPDATE idempotency_keys SET lease_until = now() WHERE lease_until > now()")

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[Any]:
        """A connection to a service's database."""
        connection = await asyncpg.connect(database_url(self.system.endpoints.postgres, database_of(service)))
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def empty_shelf(self, order_id: str, variant: str, pieces: int) -> AsyncIterator[None]:
        """What a very late payment finds: the hold had ended, and the warehouse is empty. Filled again after."""
        async with self.database("catalog") as connection:
            on_hand = await connection.fetchval("SELECT on_hand FROM variants WHERE id = $1", variant)
            await connection.execute("UPDATE holds SET state = 'expired' WHERE order_id = $1", order_id)
            await connection.execute(
                "UPDATE variants SET held = held - $2, on_hand = held - $2 WHERE id = $1", variant, pieces
            )
            try:
                yield
            finally:
                await connection.execute("UPDATE variants SET on_hand = $2 WHERE id = $1", variant, on_hand)

    @asynccontextmanager
    async def staff(self) -> AsyncIterator[Staff]:
        """A member of staff who has signed in."""
        staff = Staff(self.system.endpoints)
        try:
            await staff.sign_in()
            yield staff
        finally:
            await staff.close()

    async def rest(self) -> None:
        """Until nothing of this test is left to do anywhere; a dead letter is something left to do."""

        async def done() -> bool:
            return not await self.unfinished()

        try:
            await eventually(done, "the last jobs", seconds=60)
        except TimeoutError:  # not looked at again when it was done: an event of Stripe's may have come since
            assert await self.unfinished() == {}

    async def unfinished(self) -> dict[str, Any]:
        """Jobs by service."""
        jobs = {name: await self.observer.rows(name, UNFINISHED, self.since) for name in SERVICES}
        return {name: rows for name, rows in jobs.items() if rows}


@dataclass(frozen=True)
class Purchase:
    """Two pieces, ordered."""

    shopper: Shopper
    key: str
    variant: str
    stock: tuple[int, int]
    checkout: dict[str, Any]


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> CrashPoints:
    """The points of the system below."""
    return CrashPoints(tmp_path_factory.mktemp("points"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, points: CrashPoints) -> Iterator[System]:
    """One system for all points."""
    # No webhook is waited for before it counts as missing: here they are dropped on purpose.
    environment = points.environment | {"RECONCILE_GRACE_SECONDS": "0"}
    with System(tmp_path_factory.mktemp("crashes"), pick_port_base(), environment=environment) as system:
        yield system


@pytest.fixture
def mortal(system: System, points: CrashPoints) -> Iterator[Mortal]:
    """The system during one test, at whose end nobody is to die any more."""
    yield Mortal(system, points, Observer(system.endpoints, system.state.logs), datetime.now(UTC))
    points.disarm()


@pytest_asyncio.fixture(loop_scope="session")
async def shopper(mortal: Mortal) -> AsyncIterator[Shopper]:
    """A new customer."""
    shopper = Shopper(mortal.system.endpoints)
    yield shopper
    await shopper.close()


async def order(mortal: Mortal, shopper: Shopper, point: str | None = None, *, coupon: str | None = None) -> Purchase:
    """Orders two pieces, with a coupon or not, while the process that has the point dies there if one is given."""
    variant = (await shopper.choose(at_least=2))["variant"]["id"]
    stock = await mortal.observer.on_hand(variant)
    (await shopper.add(variant, 2)).raise_for_status()
    if coupon is not None:
        (await shopper.http.post("/api/cart/coupon", json={"code": coupon})).raise_for_status()
    key = str(uuid.uuid4())
    if point is None:
        checkout = await shopper.checkout_until_answered(key)
    else:
        async with mortal.dying(DIES[point], point):
            checkout = await shopper.checkout_until_answered(key)
    return Purchase(shopper, key, variant, stock, checkout)


def sign_in(mortal: Mortal, shopper: Shopper) -> None:
    """As after a login: the shop's requests carry a token from now on."""
    who = Principal(id=new_id(), kind="customer", email=shopper.email, name="Ada")
    token = SigningKeys.load(mortal.system.state.tls / "signing.key").access_token(who)
    shopper.http.headers["Authorization"] = f"Bearer {token}"


async def dying_at(mortal: Mortal, point: str, step: Coroutine[Any, Any, T]) -> T:
    """Does something while the process that has the point dies there."""
    async with mortal.dying(DIES[point], point):
        return await step


async def post_until_answered(
    asker: Shopper | Staff, path: str, body: dict[str, Any], *, status: int = 201
) -> dict[str, Any]:
    """As a browser does: the same key until there is an answer."""
    key = str(uuid.uuid4())

    async def answered() -> dict[str, Any] | None:
        with suppress(httpx.HTTPError):
            answer = await asker.http.post(path, json=body, headers={"Idempotency-Key": key})
            return dict(answer.json()) if answer.status_code == status else None
        return None

    answer: dict[str, Any] = await eventually(answered, path, seconds=60)
    return answer


async def assert_bought(mortal: Mortal, purchase: Purchase, *, mails: int, mail_state: str = "sent") -> None:
    """The books of everybody agree on one sale, and nobody has anything left to do."""
    shopper = purchase.shopper
    await shopper.wait_for(purchase.checkout, "paid", seconds=60)
    await mortal.rest()
    account = await assert_ordered_once(mortal, purchase)
    assert account["refunds"] == 0
    on_hand, held = purchase.stock
    assert await mortal.observer.on_hand(purchase.variant) == (on_hand - 2, held)
    assert await states(mortal, purchase) == {"order": "paid", "stock": "committed", "hold": "committed"}
    delivered = await mortal.observer.messages(to=shopper.email)
    assert len(delivered) == mails
    assert len({mail["headers"]["Message-ID"] for mail in delivered}) == 1
    sent = await mortal.observer.rows("notifications", 'SELECT state FROM emails WHERE "to" = $1', shopper.email)
    assert sent == [{"state": mail_state}]
    await assert_books(mortal)


async def assert_books(mortal: Mortal) -> None:
    """Charges = paid orders - refunds, held = live holds, sold = committed holds, one confirmation per order sold."""
    observer = mortal.observer
    accounts = (await observer.ledger())["orders"]
    kept = {order: account["charged"] - account["refunded"] for order, account in accounts.items()}
    owed = {row["id"]: row["kept"] for row in await observer.rows("orders", _KEPT)}
    assert {order: amount for order, amount in kept.items() if amount} == {
        order: amount for order, amount in owed.items() if amount
    }
    assert await observer.rows("catalog", _SHELVES) == []
    sold = {row["id"] for row in await observer.rows("orders", _SOLD)}
    confirmed = await observer.rows("notifications", _CONFIRMED)
    assert sorted(row["order_id"] for row in confirmed) == sorted(sold)
    committed = await observer.rows("catalog", "SELECT order_id::text FROM holds WHERE state = 'committed'")
    assert {row["order_id"] for row in committed} == sold


_KEPT = """
SELECT o.id::text,
       CASE WHEN o.paid_at IS NULL THEN 0 ELSE o.total END
       - coalesce((SELECT sum(r.amount) FROM order_refunds r JOIN order_payments p USING (payment_intent_id)
                    WHERE r.order_id = o.id AND p.outcome = 'applied' AND r.failed_at IS NULL), 0)::bigint AS kept
  FROM orders o
"""
_SOLD = "SELECT id::text FROM orders WHERE stock = 'committed'"
_CONFIRMED = """
SELECT split_part(idempotency_key, ':', 2) AS order_id FROM emails WHERE template = 'order_confirmation'
"""
# Shelves whose promises are not those of the live holds, and sales that are not those of committed holds.
_SHELVES = """
SELECT v.sku FROM variants v
  LEFT JOIN LATERAL (SELECT coalesce(sum(quantity) FILTER (WHERE state = 'held'), 0) AS promised,
                            coalesce(sum(quantity) FILTER (WHERE state = 'committed'), 0) AS committed
                       FROM hold_lines JOIN holds USING (order_id, attempt) WHERE variant_id = v.id) AS live ON true
  LEFT JOIN LATERAL (SELECT coalesce(sum(quantity), 0) AS sold FROM sales WHERE variant_id = v.id) AS past ON true
 WHERE v.held <> live.promised OR past.sold <> live.committed OR v.on_hand < v.held
"""


async def assert_ordered_once(mortal: Mortal, purchase: Purchase) -> dict[str, Any]:
    """One order, one intent, one charge, the same answer to the same key, no event left; what Stripe booked."""
    shopper, checkout, observer = purchase.shopper, purchase.checkout, mortal.observer
    again = await shopper.checkout(purchase.key)
    assert (again.status_code, again.json()) == (201, checkout)
    assert await observer.value("orders", "SELECT count(*) FROM orders WHERE email = $1", shopper.email) == 1
    account: dict[str, Any] = (await observer.ledger())["orders"][checkout["order_id"]]
    assert account["payment_intents"] == [checkout["payment"]["payment_intent_id"]]
    assert (account["charges"], account["charged"]) == (1, checkout["total"]["amount"])
    waiting = "SELECT event_type, state FROM inbox WHERE state NOT IN ('processed', 'ignored') AND received_at >= $1"

    async def all_received() -> bool:
        return not await observer.rows("payments-webhooks", waiting, mortal.since)

    # Stripe sends again what found nobody: an event may come, and wait for its job, after all others are done.
    await eventually(all_received, "the last events", seconds=60)
    return account


async def states(mortal: Mortal, purchase: Purchase) -> dict[str, str]:
    """Of the order, its stock as orders sees it, and its hold as catalog does."""
    order_id = purchase.checkout["order_id"]
    (order,) = await mortal.observer.rows(
        "orders", 'SELECT status AS "order", stock FROM orders WHERE id = $1', order_id
    )
    (hold,) = await mortal.observer.rows("catalog", "SELECT state AS hold FROM holds WHERE order_id = $1", order_id)
    return {**order, **hold}


async def campaign_dying_at(mortal: Mortal, point: str) -> dict[str, Any]:
    """How a campaign ends while notifications dies once on the way; asserts that everybody has one mail."""
    async with mortal.staff() as staff:
        name = f"Crash {uuid.uuid4().hex[:8]}"
        campaign = await staff.draft_campaign(name)
        async with mortal.dying("notifications", point):
            (await staff.send_campaign(campaign)).raise_for_status()

        async def finished() -> dict[str, Any] | None:
            stats = await staff.campaign_stats(campaign)
            return stats if stats.get("status") == "finished" else None

        # A batch waits a minute after a death.
        stats: dict[str, Any] = await eventually(finished, "the campaign", seconds=150)
        await mortal.rest()
    mails = [mail for mail in await mortal.observer.messages() if mail["subject"].startswith(name)]
    receivers = [to for mail in mails for to in mail["to"]]
    assert len(receivers) == len(set(receivers)) == stats["recipients"]
    return stats
