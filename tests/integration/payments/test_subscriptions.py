"""What is paid for again and again: charged once a period, ended when told, and always as Stripe has it."""

import asyncio
import time
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest

from reliability.context import Principal
from tests.contract.stripe_sandbox_fixtures import Received
from tests.integration.payments.conftest import Shop
from tests.integration.payments.test_events import again, signed
from tests.integration.payments.test_reconcile import reconcile

SUBSCRIPTIONS, PLAN, PRICE = "/subscriptions", "treats-monthly", 2000
GOOD, REFUSED = "pm_card_visa", "pm_card_chargeDeclined"
DAY, STRIPES = 86_400, "/v1/subscriptions"


@dataclass(slots=True)
class Subscriber:
    """Somebody with an account, who is at Stripe on a clock of their own."""

    shop: Shop
    who: Principal
    clock: str
    now: int
    customer: str
    delivered: int = 0

    async def card(self, token: str = GOOD) -> str:
        """Saves a card."""
        return (await self.shop.sandbox.api.v1.payment_methods.attach_async(token, {"customer": self.customer})).id

    async def ask(self, card: str | None = None, key: str = "", status: int = 201) -> dict[str, Any]:
        """Subscribes."""
        body = {"plan": PLAN} | ({"payment_method_id": card} if card else {})
        answer = await self.shop.ask(self.who, "POST", SUBSCRIPTIONS, body, key=key)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    async def change(self, subscription: str, what: str, status: int = 200) -> dict[str, Any]:
        """Cancels or resumes."""
        answer = await self.shop.ask(self.who, "POST", f"{SUBSCRIPTIONS}/{subscription}/{what}")
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    async def shown(self) -> list[dict[str, Any]]:
        """Their subscriptions."""
        return list((await self.shop.ask(self.who, "GET", SUBSCRIPTIONS)).json()["items"])

    async def pass_days(self, days: int) -> None:
        """Moves the customer's clock on."""
        self.now += days * DAY
        clocks = self.shop.sandbox.api.v1.test_helpers.test_clocks
        await clocks.advance_async(self.clock, {"frozen_time": self.now})

    async def news(self, *, reverse: bool = False, twice: bool = False) -> list[Received]:
        """Everything that Stripe sent since the last time."""
        receiver, expected = self.shop.sandbox.receiver, len(await self.shop.sandbox.event_types())
        async with asyncio.timeout(10), receiver.arrived:
            await receiver.arrived.wait_for(lambda: len(receiver.received) >= expected)
        fresh = receiver.received[self.delivered :]
        self.delivered = len(receiver.received)
        return (list(reversed(fresh)) if reverse else fresh) * (2 if twice else 1)

    async def hear(self, *, reverse: bool = False) -> None:
        """Delivers the news twice, each event handled before the next comes."""
        for event in await self.news(reverse=reverse, twice=True):
            await self.shop.deliver(event)
            await self.shop.work()

    async def at_stripe(self) -> list[Any]:
        """The customer's subscriptions there, whatever their status."""
        listed = await self.shop.sandbox.api.v1.subscriptions.list_async({"customer": self.customer, "status": "all"})
        return list(listed.data)


async def plan(shop: Shop) -> None:
    """What there is to subscribe to."""
    api = shop.sandbox.api.v1
    product = await api.products.create_async({"name": "A box of treats"})
    recurring: Any = {"interval": "month"}
    await api.prices.create_async(
        {
            "product": product.id,
            "unit_amount": PRICE,
            "currency": "usd",
            "recurring": recurring,
            "lookup_key": PLAN,
        }
    )


async def subscriber(shop: Shop) -> Subscriber:
    """Known at Stripe before they subscribe, so that it is on a clock that can be moved."""
    await plan(shop)
    who, now, api = shop.customer(), int(time.time()), shop.sandbox.api.v1
    clock = await api.test_helpers.test_clocks.create_async({"frozen_time": now})
    customer = await api.customers.create_async({"email": who.email, "test_clock": clock.id})
    await shop.execute(
        "INSERT INTO stripe_customers (account_id, stripe_id, email) VALUES ($1, $2, $3)",
        who.id,
        customer.id,
        who.email,
    )
    return Subscriber(shop, who, clock.id, now, customer.id)


async def forgotten_by_stripe(shop: Shop) -> None:
    """Thirty days have passed there: no event is listed any more."""
    shop.sandbox.clock.ahead += 31 * DAY


def templates(mails: list[tuple[str, str]]) -> list[str]:
    return [template.removeprefix("subscription_") for template, _ in mails]


async def states(shop: Shop) -> list[Any]:
    return await shop.rows("SELECT state FROM inbox WHERE state NOT IN ('processed', 'ignored')")


async def test_a_saved_card_is_charged_at_once(shop: Shop) -> None:
    """Active in the answer, one paid invoice, one mail, however often the events come."""
    ada = await subscriber(shop)
    made = await ada.ask(await ada.card())
    assert (made["status"], made["price"], made["title"]) == (
        "active",
        {"amount": PRICE, "currency": "USD"},
        "A box of treats",
    )
    assert (made["interval"], made["cancel_at_period_end"], made["client_secret"]) == ("month", False, None)
    await ada.hear()
    assert await ada.shown() == [made]
    assert await shop.rows("SELECT reason, status, amount_paid FROM subscription_invoices") == [
        {"reason": "subscription_create", "status": "paid", "amount_paid": PRICE}
    ]
    assert await shop.mails() == [("subscription_paid", ada.who.email)]
    assert await states(shop) == []


async def test_without_a_card_the_first_payment_is_made_on_our_page(shop: Shop) -> None:
    """Begun with a secret, asked for again with the same secret, active when it is paid."""
    ada = await subscriber(shop)
    made = await ada.ask()
    assert made["status"] == "incomplete"
    assert (await ada.ask())["client_secret"] == made["client_secret"]
    intent = made["client_secret"].split("_secret_")[0]
    await shop.sandbox.pay(intent)
    await ada.hear(reverse=True)
    (shown,) = await ada.shown()
    assert (shown["id"], shown["status"]) == (made["id"], "active")
    assert templates(await shop.mails()) == ["paid"]
    assert len(await ada.at_stripe()) == 1


async def test_what_waits_for_its_first_payment_is_paid_with_a_saved_card(shop: Shop) -> None:
    """Begun without a card, refused with one, paid with another: one subscription, one charge, one answer."""
    ada = await subscriber(shop)
    made = await ada.ask()
    assert (await ada.ask(await ada.card(REFUSED), status=422))["code"] == "subscription_refused"
    assert (await ada.shown())[0]["status"] == "incomplete"
    good = await ada.card()
    paid = await ada.ask(good, key="k")
    assert (paid["id"], paid["status"], paid["client_secret"]) == (made["id"], "active", None)
    await shop.execute("UPDATE idempotency_keys SET status = NULL, headers = NULL, body = NULL")
    assert await ada.ask(good, key="k") == paid
    assert (await ada.ask(good, status=409))["code"] == "already_subscribed"
    await ada.hear()
    charged = await shop.sandbox.api.v1.charges.list_async({"customer": ada.customer})
    assert [charge.amount for charge in charged.data if charge.paid] == [PRICE]
    assert (len(await ada.at_stripe()), templates(await shop.mails())) == (1, ["paid"])
    await ada.pass_days(31)
    await ada.hear()
    assert templates(await shop.mails()) == ["paid"] * 2  # the card stays the subscription's


async def test_many_cards_at_once_pay_it_once(shop: Shop) -> None:
    """Eight clicks and the page, all for one that waits: one charge."""
    ada = await subscriber(shop)
    intent = (await ada.ask())["client_secret"].split("_secret_")[0]
    body = {"plan": PLAN, "payment_method_id": await ada.card()}
    clicks = [shop.ask(ada.who, "POST", SUBSCRIPTIONS, body) for _ in range(8)]
    page = shop.sandbox.http.post(f"/_sandbox/payment_intents/{intent}/pay", json={"card": "4242424242424242"})
    *answers, _ = await asyncio.gather(*clicks, page)
    assert {answer.status_code for answer in answers} <= {201, 409, 503}
    charged = await shop.sandbox.api.v1.charges.list_async({"customer": ada.customer})
    assert [charge.amount for charge in charged.data if charge.paid] == [PRICE]
    assert (await ada.shown())[0]["status"] == "active"


async def test_a_refused_card_is_a_refusal_and_nothing_else(shop: Shop) -> None:
    """422, no subscription anywhere, and the next attempt with the same key and a good card is another one."""
    ada = await subscriber(shop)
    refused = await ada.ask(await ada.card(REFUSED), key="k", status=422)
    assert refused["code"] == "subscription_refused"
    assert (await ada.shown(), await ada.at_stripe()) == ([], [])
    assert (await ada.ask(await ada.card(), key="k"))["status"] == "active"
    assert await shop.value("SELECT array_agg(state ORDER BY id) FROM subscriptions") == ["refused", "active"]


async def test_sixteen_clicks_make_one_subscription(shop: Shop) -> None:
    """With sixteen keys: one is charged; who was second is told so, or told to ask again."""
    ada = await subscriber(shop)
    body = {"plan": PLAN, "payment_method_id": await ada.card()}
    answers = await asyncio.gather(*(shop.ask(ada.who, "POST", SUBSCRIPTIONS, body) for _ in range(16)))
    assert {answer.status_code for answer in answers} <= {201, 409, 503}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(await ada.at_stripe()) == 1
    second = await ada.ask(body["payment_method_id"], status=409)
    assert second["code"] == "already_subscribed"


async def test_the_same_key_gets_the_same_answer(shop: Shop) -> None:
    """Also when the card has been charged in the meantime and the answer was never stored."""
    ada = await subscriber(shop)
    card = await ada.card()
    made = await ada.ask(card, key="k")
    assert await ada.ask(card, key="k") == made
    await shop.execute("UPDATE idempotency_keys SET status = NULL, headers = NULL, body = NULL")
    assert await ada.ask(card, key="k") == made
    assert len(await ada.at_stripe()) == 1


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "backwards"])
async def test_a_renewal_is_paid_and_said(shop: Shop, reverse: bool) -> None:
    """Two months: two more invoices, two more mails, and the end of the period is Stripe's."""
    ada = await subscriber(shop)
    await ada.ask(await ada.card())
    await ada.hear(reverse=reverse)
    for _ in range(2):
        await ada.pass_days(31)
        await ada.hear(reverse=reverse)
    assert (
        await shop.rows("SELECT status, amount_paid FROM subscription_invoices")
        == [{"status": "paid", "amount_paid": PRICE}] * 3
    )
    assert templates(await shop.mails()) == ["paid"] * 3
    (theirs,) = await ada.at_stripe()
    end = await shop.value("SELECT extract(epoch FROM current_period_end)::int FROM subscriptions")
    assert end == theirs["items"].data[0].current_period_end > ada.now
    assert await states(shop) == []


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "backwards"])
async def test_a_renewal_that_is_refused_is_past_due_until_it_is_paid(shop: Shop, reverse: bool) -> None:
    """The customer is told once, pays the invoice with another card, and is active again."""
    ada = await subscriber(shop)
    made = await ada.ask(await ada.card())
    await ada.hear()
    (theirs,) = await ada.at_stripe()
    api = shop.sandbox.api.v1
    await api.subscriptions.update_async(theirs.id, {"default_payment_method": await ada.card(REFUSED)})
    await ada.pass_days(31)
    await ada.hear(reverse=reverse)
    (shown,) = await ada.shown()
    assert (shown["id"], shown["status"]) == (made["id"], "past_due")
    assert templates(await shop.mails()) == ["paid", "payment_failed"]
    (theirs,) = await ada.at_stripe()
    await api.invoices.pay_async(str(theirs.latest_invoice), {"payment_method": await ada.card()})
    await ada.hear(reverse=reverse)
    assert (await ada.shown())[0]["status"] == "active"
    assert templates(await shop.mails()) == ["paid", "payment_failed", "paid"]
    assert await states(shop) == []


async def test_it_ends_with_its_period_unless_it_is_resumed(shop: Shop) -> None:
    """Cancelled twice, resumed, renewed, cancelled: it ends once, is said once, and stays over."""
    ada = await subscriber(shop)
    card = await ada.card()
    made = await ada.ask(card)
    for _ in range(2):
        assert (await ada.change(made["id"], "cancel"))["cancel_at_period_end"] is True
    assert (await ada.change(made["id"], "resume"))["cancel_at_period_end"] is False
    await ada.pass_days(31)
    await ada.hear()
    assert (await ada.shown())[0]["status"] == "active"
    ending = await ada.change(made["id"], "cancel")
    assert (ending["status"], ending["cancel_at_period_end"]) == ("active", True)
    await ada.pass_days(31)
    await ada.hear(reverse=True)
    (shown,) = await ada.shown()
    assert shown["status"] == "canceled"
    assert shown["ended_at"] is not None
    assert templates(await shop.mails()) == ["paid", "paid", "ended"]
    for what in ("cancel", "resume"):
        assert (await ada.change(made["id"], what, 409))["code"] == "subscription_ended"
    assert (await ada.ask(card))["id"] != made["id"]


async def test_what_ended_before_we_heard_of_it_is_over(shop: Shop) -> None:
    """Ended in the dashboard, no event yet: resuming finds it out, and the customer is told once."""
    ada = await subscriber(shop)
    made = await ada.ask(await ada.card())
    (theirs,) = await ada.at_stripe()
    await shop.sandbox.api.v1.subscriptions.cancel_async(theirs.id)
    assert (await ada.change(made["id"], "resume", 409))["code"] == "subscription_ended"
    await ada.hear()
    assert (await ada.shown())[0]["status"] == "canceled"
    assert templates(await shop.mails()).count("ended") == 1


async def test_what_was_never_paid_is_cancelled_at_once(shop: Shop) -> None:
    """It cannot be resumed, it can be cancelled, and nobody gets a mail about it."""
    ada = await subscriber(shop)
    made = await ada.ask()
    assert (await ada.change(made["id"], "resume", 409))["code"] == "subscription_unpaid"
    assert (await ada.change(made["id"], "cancel"))["status"] == "canceled"
    await ada.hear()
    assert await shop.mails() == []
    assert (await ada.ask())["status"] == "incomplete"


async def test_somebody_elses_is_not_found(shop: Shop) -> None:
    """To read, to end, to go on with, to begin a page at; so is what is no id, and another's card."""
    ada, eve = await subscriber(shop), shop.customer("eve")
    made = await ada.ask(await ada.card())
    for name in (made["id"], "x", "0" * 36, made["id"].replace("0", "1")):
        for what in ("cancel", "resume"):
            assert (await shop.ask(eve, "POST", f"{SUBSCRIPTIONS}/{name}/{what}")).status_code == 404
    assert (await shop.ask(eve, "GET", f"{SUBSCRIPTIONS}?cursor={made['id']}")).status_code == 422
    assert (await shop.ask(eve, "GET", SUBSCRIPTIONS)).json() == {"items": [], "next_cursor": None}
    body = {"plan": PLAN, "payment_method_id": await ada.card()}
    assert (await shop.ask(eve, "POST", SUBSCRIPTIONS, body)).status_code == 404
    assert (await ada.shown())[0]["status"] == "active"


@pytest.mark.parametrize(
    "body",
    [{}, {"plan": ""}, {"plan": "none"}, {"plan": 1}, {"plan": "a b"}, {"plan": PLAN, "price": 1}, {"plan": "x" * 65}],
)
async def test_what_is_no_plan_is_refused(shop: Shop, body: dict[str, Any]) -> None:
    """422, and nothing is begun."""
    await plan(shop)
    answer = await shop.ask(shop.customer(), "POST", SUBSCRIPTIONS, body)
    assert answer.status_code == 422, answer.text
    assert await shop.value("SELECT count(*) FROM subscriptions") == 0


async def test_pages_of_subscriptions(shop: Shop) -> None:
    """Newest first, each once."""
    ada = await subscriber(shop)
    ids = []
    for _ in range(3):
        ids.append((await ada.ask())["id"])
        await ada.change(ids[-1], "cancel")
    first = (await shop.ask(ada.who, "GET", f"{SUBSCRIPTIONS}?limit=2")).json()
    second = (await shop.ask(ada.who, "GET", f"{SUBSCRIPTIONS}?limit=2&cursor={first['next_cursor']}")).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


LOST = ("customer.subscription.created", "invoice.paid", "customer.subscription.updated")


@pytest.mark.parametrize("arrival", list(permutations(LOST)), ids=lambda kinds: "-".join(k[-4:] for k in kinds))
async def test_events_lead_back_to_a_row_that_forgot(shop: Shop, arrival: tuple[str, ...]) -> None:
    """As after a crash: Stripe has it and our row does not know; any order of events mends it."""
    ada = await subscriber(shop)
    await ada.ask(await ada.card())
    (theirs,) = await ada.at_stripe()
    await shop.execute("UPDATE subscriptions SET state = 'creating', stripe_id = NULL, current_period_end = NULL")
    for kind in arrival:
        await shop.deliver(await shop.event(kind, theirs.id))
        await shop.work()
    (shown,) = await ada.shown()
    assert shown["status"] == "active"
    assert templates(await shop.mails()) == ["paid"]
    assert await states(shop) == []


async def test_the_subscription_of_nobody_is_retried_and_parked(shop: Shop) -> None:
    """Its events and its invoice's: never a silent yes."""
    ada = await subscriber(shop)
    await ada.ask(await ada.card())
    await shop.execute("DELETE FROM subscriptions")
    for event in await ada.news():
        if event.type in {*LOST, "payment_intent.succeeded"}:
            await shop.deliver(event)
    invoice = {"id": "in_1", "object": "invoice", "parent": None}
    await shop.deliver(signed({"id": "evt_alone", "type": "invoice.paid", "data": {"object": invoice}}))
    await again(shop, attempts=80)
    parked = await shop.rows("SELECT event_type FROM inbox WHERE state = 'parked' ORDER BY event_type")
    assert [row["event_type"] for row in parked] == sorted([*LOST, "invoice.paid"])
    assert await shop.mails() == []


async def test_a_second_subscription_of_one_row_is_shown_to_a_person(shop: Shop) -> None:
    """Money for nothing: it is parked, and the row stays with the first."""
    ada = await subscriber(shop)
    made = await ada.ask(await ada.card())
    (theirs,) = await ada.at_stripe()
    twin = await shop.sandbox.api.v1.subscriptions.create_async(
        {
            "customer": ada.customer,
            "items": [{"price": theirs["items"].data[0].price.id}],
            "metadata": {"subscription_id": made["id"]},
            "default_payment_method": await ada.card(),
        }
    )
    await shop.deliver(await shop.event("customer.subscription.created", twin.id))
    await shop.work()
    assert await states(shop) == [{"state": "parked"}]
    assert await shop.value("SELECT stripe_id FROM subscriptions") == theirs.id


@pytest.mark.parametrize("fault", ["connection_reset", "500", "500_before_effect"])
async def test_one_is_made_whatever_stripe_answers(shop: Shop, fault: str) -> None:
    """A lost answer is asked for again; a stored failure is looked behind; one is charged in the end."""
    ada = await subscriber(shop)
    card = await ada.card()
    await shop.sandbox.fault(on="api", method="POST", path=STRIPES, fault=fault)
    answer = None
    for _ in range(4):
        answer = await shop.ask(ada.who, "POST", SUBSCRIPTIONS, {"plan": PLAN, "payment_method_id": card}, key="k")
        if answer.status_code == 201:
            break
    assert answer is not None
    assert answer.status_code == 201, answer.text
    assert [each.id for each in await ada.at_stripe()] == [await shop.value("SELECT stripe_id FROM subscriptions")]


async def test_an_old_key_is_not_trusted(shop: Shop) -> None:
    """A day later Stripe has forgotten the key: what was made is looked up instead of made again."""
    ada = await subscriber(shop)
    card = await ada.card()
    await ada.ask(card)
    await shop.execute(
        "UPDATE subscriptions SET state = 'creating', stripe_id = NULL, created_at = now() - interval '25 hours'"
    )
    shop.sandbox.clock.ahead = 25 * 3600.0
    assert (await ada.ask(card))["status"] == "active"
    assert len(await ada.at_stripe()) == 1


async def test_a_subscription_older_than_stripes_events_is_compared(shop: Shop) -> None:
    """Renewed while we were deaf, for longer than Stripe lists events: the reconciler asks, and the mail goes out."""
    ada = await subscriber(shop)
    made = await ada.ask(await ada.card())
    await ada.hear()
    await ada.pass_days(31)
    await ada.news()  # and never handed over
    await shop.execute("UPDATE subscriptions SET created_at = now() - interval '100 days'")
    await shop.execute("DELETE FROM reconciliation")
    await forgotten_by_stripe(shop)
    first, second = await reconcile(shop), await reconcile(shop)
    assert (first.processed, first.failed, second.processed) == (2, 0, 0)
    (shown,) = await ada.shown()
    assert shown["current_period_end"] > made["current_period_end"]
    assert templates(await shop.mails()) == ["paid"] * 2
    assert await states(shop) == []


async def test_a_subscription_that_stripe_does_not_know_is_drift(shop: Shop) -> None:
    """It is written down, once, and nothing else stops because of it."""
    ada = await subscriber(shop)
    await ada.ask(await ada.card())
    await ada.hear()
    await shop.execute("UPDATE subscriptions SET created_at = now() - interval '2 days', stripe_id = 'sub_gone'")
    run = await reconcile(shop)
    assert run.failed == 1
    assert await shop.rows("SELECT subject, stripes, repaired FROM drift") == [
        {"subject": "sub_gone", "stripes": "unknown", "repaired": False}
    ]
