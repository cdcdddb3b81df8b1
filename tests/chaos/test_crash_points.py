"""What if we die here? Every named point of a purchase, a refund and a campaign, one after the other.

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

from deploy.local.credentials import load_secrets
from deploy.local.databases import database_of, database_url
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, Staff, eventually
from deploy.local.ports import SERVICES, pick_port_base
from deploy.local.state import ROOT
from deploy.local.system import System
from reliability.context import Principal
from reliability.ids import new_id
from reliability.testing.crash import CrashPoints, names
from services.accounts.keys.service import SigningKeys

T = TypeVar("T")

PRICE = 2000

# Who dies, by the point, while the customer waits for the checkout's answer,
CHECKOUT = {
    "hold.not_committed": "catalog",
    "checkout.claimed": "orders",
    "checkout.order_not_committed": "orders",
    "checkout.ordered": "orders",
    "checkout.held": "orders",
    "checkout.intent_created": "orders",
    "checkout.answer_not_committed": "orders",
    "checkout.not_answered": "orders",
    "intent.not_created": "payments-webhooks",
    "intent.not_stored": "payments-webhooks",
    "intent.not_answered": "payments-webhooks",
}
# after the payment,
PAYMENT = {
    "webhook.not_answered": "payments-webhooks",
    "webhook.not_reported": "payments-webhooks",
    "webhook.reported": "payments-webhooks",
    "webhook.not_committed": "payments-webhooks",
    "payment.not_committed": "orders",
    "payment.not_answered": "orders",
    "stock.not_noted": "orders",
    "stock.noted": "orders",
    "confirmation.not_noted": "orders",
    "mail.not_answered": "notifications",
    "mail.not_sent": "notifications",
    "mail.not_noted": "notifications",
}
# and after a payment for stock that is gone.
REFUND = {
    "refund.asked_not_answered": "payments-webhooks",
    "refund.asked_not_noted": "orders",
    "refund.not_stored": "payments-webhooks",
    "refund.reported_not_noted": "payments-webhooks",
    "refund.recorded_not_answered": "orders",
    "refund.notice_not_noted": "orders",
}
# Staff send money back, or goods out,
STAFF_REFUND = {"refund.decided_not_committed": "orders", "refund.asked_not_noted": "orders"}
FULFILMENT = {"fulfilment.not_committed": "orders", "fulfilment.notice_not_noted": "orders"}
# money comes for an order that is over,
UNUSABLE = "refund.unusable_asked_not_noted"
# While a checkout is given up, or its time is up,
CANCEL = {
    "cancel.not_asked": "orders",
    "cancel.confirmed_by_stripe": "orders",
    "cancel.not_committed": "orders",
    "release.not_noted": "orders",
}
# while one whose time is up is found to be paid,
EXPIRY = "expiry.extended_not_noted"
# while a refund is sent back by the bank,
FAILED_REFUND = "refund.failure_reported_not_noted"
# and while what nobody told us is found out.
RECONCILIATION = {
    "reconcile.page_stored": "payments-webhooks",
    "reconcile.not_noted": "payments-webhooks",
}
# A signed-in customer changes the way to pay, or saves a card,
PAYING = {
    "switch.not_ended": "payments-webhooks",
    "switch.not_replaced": "payments-webhooks",
    "pay.not_answered": "payments-webhooks",
    "customer.not_stored": "payments-webhooks",
}
# subscribes and pays the first time, or ends it.
SUBSCRIBING = {
    "subscription.not_created": "payments-webhooks",
    "subscription.not_stored": "payments-webhooks",
    "subscription.not_answered": "payments-webhooks",
    "subscription.change_not_stored": "payments-webhooks",
    "subscription.notice_not_noted": "payments-webhooks",
}
CAMPAIGN = "campaign.not_noted"
# Died at in a module of their own: accounts (test_account_crash_points.py),
ACCOUNT = {
    "signup.not_committed",
    "signup.not_answered",
    "login.not_answered",
    "refresh.not_committed",
    "refresh.not_answered",
    "reset.not_committed",
    "reset.not_answered",
    "erase.not_committed",
    "erase.not_answered",
    "oauth.not_committed",
    "invitation.not_committed",
    "removal.not_committed",
}
# and batches of a provider that deduplicates (test_batch_crash_points.py).
BATCH = {"campaign.not_shipped", "campaign.not_noted"}
DIES = (
    CHECKOUT
    | PAYMENT
    | REFUND
    | CANCEL
    | RECONCILIATION
    | PAYING
    | SUBSCRIBING
    | STAFF_REFUND
    | FULFILMENT
    | {EXPIRY: "orders", FAILED_REFUND: "payments-webhooks", UNUSABLE: "orders"}
)
# Tried in every run: money asked for and not noted, an effect whose job is not settled, a mail nobody noted.
ALWAYS = {"checkout.intent_created", "intent.not_stored", "webhook.reported", "mail.not_noted"}

UNFINISHED = """
    SELECT kind, state, attempt, last_error FROM jobs
     WHERE state IN ('queued', 'running', 'parked') AND kind NOT LIKE 'schedule:%' AND kind <> 'expire_order'
       AND created_at >= $1
"""


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
        if service == "orders":
            await self._back_behind_the_gateway()

    async def _back_behind_the_gateway(self) -> None:
        """Until the gateway, too, has noticed who came after the dead."""
        async with httpx.AsyncClient(base_url=self.system.endpoints.gateway) as anybody:

            async def answered() -> bool:
                with suppress(httpx.HTTPError):
                    return (await anybody.get("/api/appointments/services")).status_code == 200
                return False

            await eventually(answered, "orders behind the gateway", seconds=30)

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
        """What a very late payment finds: the hold was released, and the warehouse is empty. Filled again after."""
        async with self.database("catalog") as connection:
            on_hand = await connection.fetchval("SELECT on_hand FROM variants WHERE id = $1", variant)
            await connection.execute("UPDATE holds SET state = 'released' WHERE order_id = $1", order_id)
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

        with suppress(TimeoutError):
            await eventually(done, "the last jobs", seconds=60)
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


def some(points: dict[str, str]) -> list[Any]:
    """Parameters: the points, most of them only for long runs."""
    return [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.long) for name in points]


def test_every_point_in_the_sources_is_died_at() -> None:
    """A new point is no point until a test dies there."""
    assert set(names(ROOT / "services", ROOT / "libs" / "reliability" / "src")) == {*DIES, CAMPAIGN, *ACCOUNT, *BATCH}


@pytest.mark.parametrize("point", some(CHECKOUT))
async def test_a_checkout_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The customer's browser asks again with the same key: one order, one charge, one movement of stock, one mail."""
    purchase = await order(mortal, shopper, point)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await assert_bought(mortal, purchase, mails=1)


@pytest.mark.parametrize("point", some(PAYMENT))
async def test_a_payment_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """What was paid for is recorded, taken from stock and confirmed, once."""
    purchase = await order(mortal, shopper)
    async with mortal.dying(DIES[point], point):
        (await shopper.pay(purchase.checkout)).raise_for_status()
    # Plain SMTP cannot tell whether it took a mail: one attempt more, under the same Message-ID.
    await assert_bought(mortal, purchase, mails=2 if point == "mail.not_noted" else 1)


@pytest.mark.parametrize("point", some(REFUND))
async def test_a_refund_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """Money for stock that is gone goes back once, and one mail says so."""
    purchase = await order(mortal, shopper)
    async with mortal.empty_shelf(purchase.checkout["order_id"], purchase.variant, 2):
        async with mortal.dying(DIES[point], point):
            (await shopper.pay(purchase.checkout)).raise_for_status()
        await shopper.wait_for(purchase.checkout, "refunded", seconds=60)
        await mortal.rest()
    total = purchase.checkout["total"]["amount"]
    account = await assert_ordered_once(mortal, purchase)
    assert (account["refunds"], account["refunded"]) == (1, total)
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    assert await states(mortal, purchase) == {"order": "refunded", "stock": "lost", "hold": "released"}
    (mail,) = await mortal.observer.messages(to=shopper.email)
    assert "refund" in mail["subject"]
    await assert_books(mortal)


@pytest.mark.parametrize("point", some(CANCEL))
async def test_a_cancellation_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """Nobody can pay any more, the pieces are on sale again, once, and the same click is answered the same."""
    purchase = await order(mortal, shopper)
    key = str(uuid.uuid4())
    async with mortal.dying(DIES[point], point):
        answer = await cancel_until_answered(purchase, key)
    assert answer["status"] == "cancelled"
    assert await cancel_until_answered(purchase, key) == answer
    await mortal.rest()
    assert await states(mortal, purchase) == {"order": "cancelled", "stock": "released", "hold": "released"}
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    assert (await shopper.pay(purchase.checkout)).status_code == 400
    account = (await mortal.observer.ledger())["orders"].get(purchase.checkout["order_id"], {"charges": 0})
    assert account["charges"] == 0


@pytest.mark.parametrize("point", some(CANCEL))
async def test_an_expiry_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The time is up and nobody has paid: the payment is over at Stripe, and the pieces are on sale again, once."""
    purchase = await order(mortal, shopper)
    async with mortal.dying(DIES[point], point), mortal.database("orders") as connection:
        await connection.execute(
            "UPDATE jobs SET run_at = now() WHERE kind = 'expire_order' AND payload ->> 'order_id' = $1",
            purchase.checkout["order_id"],
        )
    await shopper.wait_for(purchase.checkout, "cancelled", seconds=60)
    await mortal.rest()
    assert await states(mortal, purchase) == {"order": "cancelled", "stock": "released", "hold": "released"}
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    assert (await shopper.pay(purchase.checkout)).status_code == 400
    await assert_books(mortal)


@pytest.mark.parametrize("point", some(STAFF_REFUND))
async def test_a_refund_by_staff_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The same click until it is answered: the money goes back once, with one mail and one line in the audit log."""
    purchase = await order(mortal, shopper)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await shopper.wait_for(purchase.checkout, "paid", seconds=60)
    await mortal.rest()
    path = f"/api/admin/orders/{purchase.checkout['order_id']}/refund"
    body = {"amount": {"amount": 100, "currency": "USD"}, "reason": "The bag was torn."}
    async with mortal.staff() as staff:
        async with mortal.dying(DIES[point], point):
            await post_until_answered(staff, path, body, status=202)
        await mortal.rest()
    account = await assert_ordered_once(mortal, purchase)
    assert (account["refunds"], account["refunded"]) == (1, 100)
    mails = [mail for mail in await mortal.observer.messages(to=shopper.email) if "refund" in mail["subject"]]
    assert len(mails) == 1
    audited = "SELECT count(*) FROM audit_log WHERE action = 'order.refunded' AND subject = $1"
    assert await mortal.observer.value("admin", audited, purchase.checkout["order_id"]) == 1
    await assert_books(mortal)


@pytest.mark.parametrize("point", some(FULFILMENT))
async def test_sending_an_order_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """The same click until it is answered: handed over once, and one mail says so."""
    purchase = await order(mortal, shopper)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await shopper.wait_for(purchase.checkout, "paid", seconds=60)
    await mortal.rest()
    path = f"/api/admin/orders/{purchase.checkout['order_id']}/fulfil"
    async with mortal.staff() as staff:
        async with mortal.dying(DIES[point], point):
            await post_until_answered(staff, path, {"carrier": "Parcel Post"}, status=200)
        await mortal.rest()
    assert await states(mortal, purchase) == {"order": "fulfilled", "stock": "committed", "hold": "committed"}
    mails = [mail for mail in await mortal.observer.messages(to=shopper.email) if "on its way" in mail["subject"]]
    assert len(mails) == 1
    await assert_books(mortal)


@pytest.mark.long
async def test_money_for_an_order_that_is_over_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """Whatever ended the order while it could be paid: the charge goes back once, and nothing is sold."""
    purchase = await order(mortal, shopper)
    order_id = purchase.checkout["order_id"]
    async with mortal.database("orders") as connection:
        await connection.execute("UPDATE orders SET status = 'cancelled', stock = 'released' WHERE id = $1", order_id)
    async with mortal.database("catalog") as connection:
        await connection.execute("UPDATE holds SET state = 'released' WHERE order_id = $1", order_id)
        await connection.execute("UPDATE variants SET held = held - 2 WHERE id = $1", purchase.variant)
    async with mortal.dying(DIES[UNUSABLE], UNUSABLE):
        (await shopper.pay(purchase.checkout)).raise_for_status()
    await mortal.rest()
    account = (await mortal.observer.ledger())["orders"][order_id]
    assert (account["charges"], account["refunds"], account["refunded"]) == (1, 1, account["charged"])
    assert await states(mortal, purchase) == {"order": "cancelled", "stock": "released", "hold": "released"}
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    await assert_books(mortal)


@pytest.mark.long
async def test_an_expiry_that_finds_money_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """The webhook is lost and the time is up: the hold was extended when the process died, and the order is paid."""
    purchase = await order(mortal, shopper)
    intent = purchase.checkout["payment"]["payment_intent_id"]
    await shopper.order_fault(on="webhook", fault="drop", type="payment_intent.succeeded", payment_intent=intent)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    async with mortal.dying("orders", EXPIRY), mortal.database("orders") as connection:
        await connection.execute(
            "UPDATE jobs SET run_at = now() WHERE kind = 'expire_order' AND payload ->> 'order_id' = $1",
            purchase.checkout["order_id"],
        )
    await shopper.wait_for(purchase.checkout, "pending")
    events = [each for each in await shopper.deliveries(intent) if each["type"] == "payment_intent.succeeded"]
    await shopper.redeliver(events[0]["event_id"], 1)
    await assert_bought(mortal, purchase, mails=1)


@pytest.mark.parametrize("point", some(PAYING))
async def test_a_change_of_mind_about_paying_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """From the intent to the hosted page, or back with a card to be saved: one way is live, and one charge is made."""
    sign_in(mortal, shopper)
    purchase = await order(mortal, shopper)
    asked: dict[str, Any] = {"order_id": purchase.checkout["order_id"]}
    if point.startswith("switch"):
        async with mortal.dying(DIES[point], point):
            page = await post_until_answered(shopper, "/api/payments/checkout-sessions", asked)
        async with httpx.AsyncClient() as browser:
            clicks = [await browser.post(page["url"], data={"card": "4242424242424242"}) for _ in range(2)]
        assert [answer.status_code for answer in clicks] == [303, 400]
    else:
        async with mortal.dying(DIES[point], point):
            intent = await post_until_answered(shopper, "/api/payments/intents", asked | {"save_card": True})
        assert intent["payment_intent_id"] == purchase.checkout["payment"]["payment_intent_id"]
        (await shopper.pay(purchase.checkout)).raise_for_status()
    await shopper.wait_for(purchase.checkout, "paid", seconds=60)
    await mortal.rest()
    account = (await mortal.observer.ledger())["orders"][purchase.checkout["order_id"]]
    assert (account["charges"], account["charged"]) == (1, purchase.checkout["total"]["amount"])
    assert await states(mortal, purchase) == {"order": "paid", "stock": "committed", "hold": "committed"}
    live = "SELECT count(*) FROM payments WHERE order_id = $1 AND state <> 'canceled'"
    assert await mortal.observer.value("payments-webhooks", live, purchase.checkout["order_id"]) == 1
    assert len(await mortal.observer.messages(to=shopper.email)) == 1


@pytest.mark.parametrize("point", some(SUBSCRIBING))
async def test_a_subscription_survives_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """Begun, paid once and ended: one subscription at Stripe, one charge, one mail, and both agree how it stands."""
    sign_in(mortal, shopper)
    plan = await recurring_price(mortal)
    path = "/api/payments/subscriptions"

    async def subscribe() -> dict[str, Any]:
        return await post_until_answered(shopper, path, {"plan": plan})

    async def pay(begun: dict[str, Any]) -> None:
        intent = begun["client_secret"].split("_secret_")[0]
        (await shopper.pay({"payment": {"payment_intent_id": intent}})).raise_for_status()
        await eventually(lambda: stands(shopper, begun, "active"), "the first payment", seconds=60)

    async def end(begun: dict[str, Any]) -> None:
        ending = await post_until_answered(shopper, f"{path}/{begun['id']}/cancel", {}, status=200)
        assert (ending["status"], ending["cancel_at_period_end"]) == ("active", True)

    steps = {"subscription.change_not_stored": end, "subscription.notice_not_noted": pay}
    begun = await (dying_at(mortal, point, subscribe()) if point not in steps else subscribe())
    for step in (pay, end):
        await (dying_at(mortal, point, step(begun)) if steps.get(point) is step else step(begun))
    await mortal.rest()
    theirs = await shopper.http.get(path)
    assert [(each["id"], each["cancel_at_period_end"]) for each in theirs.json()["items"]] == [(begun["id"], True)]
    account = (await mortal.observer.ledger())["payment_intents"][begun["client_secret"].split("_secret_")[0]]
    assert (account["charges"], account["charged"]) == (1, PRICE)
    async with stripe_api(mortal) as stripe:
        listed = (await stripe.get("/v1/subscriptions", params={"status": "all", "limit": 100})).json()["data"]
    assert len([each for each in listed if each["metadata"].get("subscription_id") == begun["id"]]) == 1
    assert len(await mortal.observer.messages(to=shopper.email)) == 1


@pytest.mark.parametrize("point", some(RECONCILIATION))
async def test_a_lost_webhook_is_found_in_spite_of_death_at(mortal: Mortal, shopper: Shopper, point: str) -> None:
    """Stripe's webhooks are all lost and the reconciler dies: the next run ends with one sale in everybody's books."""
    purchase = await order(mortal, shopper)
    intent = purchase.checkout["payment"]["payment_intent_id"]
    await shopper.order_fault(on="webhook", fault="drop", times=10, payment_intent=intent)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    async with mortal.staff() as staff, mortal.dying(DIES[point], point):
        (await staff.http.post("/api/admin/payments/reconcile", json={})).raise_for_status()
    await assert_bought(mortal, purchase, mails=1)
    drift = "SELECT kind, repaired FROM drift WHERE stripes = 'payment_intent.succeeded' AND found_at >= $1"
    found = await mortal.observer.rows("payments-webhooks", drift, mortal.since)
    assert found == [{"kind": "missing_event", "repaired": True}]


@pytest.mark.long
async def test_a_refund_that_fails_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """The money came back to us: Stripe, payments and orders agree that nothing was refunded."""
    purchase = await order(mortal, shopper)
    async with mortal.empty_shelf(purchase.checkout["order_id"], purchase.variant, 2):
        async with mortal.dying(DIES[FAILED_REFUND], FAILED_REFUND):
            (await shopper.pay(purchase.checkout, "4000000000005126")).raise_for_status()
        await shopper.wait_for(purchase.checkout, "paid", seconds=60)
        await mortal.rest()
    account = await assert_ordered_once(mortal, purchase)
    assert (account["refunds"], account["refunded"]) == (0, 0)
    refunds = await mortal.observer.rows(
        "payments-webhooks",
        "SELECT r.state FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE p.order_id = $1",
        purchase.checkout["order_id"],
    )
    assert refunds == [{"state": "failed"}]
    assert await states(mortal, purchase) == {"order": "paid", "stock": "lost", "hold": "released"}


@pytest.mark.long
async def test_a_mail_that_is_ambiguous_twice_is_unknown(mortal: Mortal, shopper: Shopper) -> None:
    """Both attempts may have arrived: it is written down as unknown, and not sent a third time."""
    purchase = await order(mortal, shopper)
    mortal.points.arm("mail.not_noted")
    (await shopper.pay(purchase.checkout)).raise_for_status()
    await mortal.death("notifications", "mail.not_noted", again=True)
    await mortal.death("notifications", "mail.not_noted")
    await assert_bought(mortal, purchase, mails=2, mail_state="unknown")


@pytest.mark.long
async def test_a_campaign_survives_death_at_its_sends(mortal: Mortal) -> None:
    """Marketing that may have arrived is unknown and not sent again; everybody else gets it once."""
    stats = await campaign_dying_at(mortal, CAMPAIGN)
    # The mail server took those that we do not know of: the test died after its answers.
    assert stats["unknown"] > 0
    assert stats["sent"] + stats["unknown"] == stats["recipients"]


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


async def order(mortal: Mortal, shopper: Shopper, point: str | None = None) -> Purchase:
    """Orders two pieces, while the process that has the point dies there if one is given."""
    variant = (await shopper.choose(at_least=2))["variant"]["id"]
    stock = await mortal.observer.on_hand(variant)
    (await shopper.add(variant, 2)).raise_for_status()
    key = str(uuid.uuid4())
    if point is None:
        checkout = await shopper.checkout_until_answered(key)
    else:
        async with mortal.dying(DIES[point], point):
            checkout = await shopper.checkout_until_answered(key)
    return Purchase(shopper, key, variant, stock, checkout)


async def cancel_until_answered(purchase: Purchase, key: str) -> dict[str, Any]:
    """The same click again until somebody answers it."""
    checkout = purchase.checkout

    async def attempt() -> dict[str, Any] | None:
        try:
            answer = await purchase.shopper.http.post(
                f"/api/checkout/{checkout['id']}/cancel",
                params={"token": checkout["checkout_token"]},
                headers={"Idempotency-Key": key},
            )
        except httpx.TransportError:
            return None
        body: dict[str, Any] = answer.json()
        return body if answer.status_code == 200 else None

    answer: dict[str, Any] = await eventually(attempt, "an answer to the cancellation")
    return answer


def sign_in(mortal: Mortal, shopper: Shopper) -> None:
    """As after a login: the shop's requests carry a token from now on."""
    who = Principal(id=new_id(), kind="customer", email=shopper.email, name="Ada")
    token = SigningKeys.load(mortal.system.state.tls / "signing.key").access_token(who)
    shopper.http.headers["Authorization"] = f"Bearer {token}"


async def dying_at(mortal: Mortal, point: str, step: Coroutine[Any, Any, T]) -> T:
    """Does something while the process that has the point dies there."""
    async with mortal.dying(DIES[point], point):
        return await step


def stripe_api(mortal: Mortal) -> httpx.AsyncClient:
    """Stripe, as somebody with the key."""
    secrets = load_secrets(mortal.system.state)
    headers = {"Authorization": f"Bearer {secrets.stripe_api_key}"}
    return httpx.AsyncClient(base_url=mortal.system.endpoints.stripe_sandbox or "", headers=headers)


async def recurring_price(mortal: Mortal) -> str:
    """Something new to subscribe to."""
    plan = f"plan-{uuid.uuid4().hex[:8]}"
    async with stripe_api(mortal) as stripe:
        product = (await stripe.post("/v1/products", data={"name": "A box of treats"})).raise_for_status().json()
        price = {"product": product["id"], "unit_amount": str(PRICE), "currency": "usd", "lookup_key": plan}
        (await stripe.post("/v1/prices", data=price | {"recurring[interval]": "month"})).raise_for_status()
    return plan


async def stands(shopper: Shopper, begun: dict[str, Any], status: str) -> bool:
    """Whether a subscription is what it should come to."""
    with suppress(httpx.HTTPError, ValueError):
        listed = await shopper.http.get("/api/payments/subscriptions")
        return listed.status_code == 200 and listed.json()["items"][0]["status"] == status
    return False


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
    assert await observer.rows("payments-webhooks", waiting, mortal.since) == []
    return account


async def states(mortal: Mortal, purchase: Purchase) -> dict[str, str]:
    """Of the order, its stock as orders sees it, and its hold as catalog does."""
    order_id = purchase.checkout["order_id"]
    (order,) = await mortal.observer.rows(
        "orders", 'SELECT status AS "order", stock FROM orders WHERE id = $1', order_id
    )
    (hold,) = await mortal.observer.rows("catalog", "SELECT state AS hold FROM holds WHERE order_id = $1", order_id)
    return {**order, **hold}
