"""Subscriptions as Stripe has them: charged at once, renewed by the clock, past due when refused, ended when told."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from sandbox.stripe.periods import end_after
from sandbox.stripe.seed import PLANS, seed
from tests.contract.stripe_sandbox_fixtures import (  # noqa: F401
    API_KEY,
    Sandbox,
    receiver_fixture,
    receiver_url_fixture,
    sandbox_fixture,
    servers_fixture,
)

START = int(datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp())
FEBRUARY = int(datetime(2027, 2, 28, 12, tzinfo=UTC).timestamp())
MARCH = int(datetime(2027, 3, 31, 12, tzinfo=UTC).timestamp())
GOOD, REFUSED = "pm_card_visa", "pm_card_chargeDeclined"


@dataclass(frozen=True)
class Subscriber:
    """A customer on a clock that stands at the end of January, and what there is to subscribe to."""

    sandbox: Sandbox
    clock: str
    customer: str
    price: str

    async def use(self, token: str) -> str:
        """Saves a card and makes it the one that is charged."""
        api = self.sandbox.api.v1
        card = await api.payment_methods.attach_async(token, {"customer": self.customer})
        await api.customers.update_async(self.customer, {"invoice_settings": {"default_payment_method": card.id}})
        return card.id

    async def subscribe(self, **more: Any) -> stripe.Subscription:
        params: Any = {"customer": self.customer, "items": [{"price": self.price}], **more}
        return await self.sandbox.api.v1.subscriptions.create_async(params)

    async def advance(self, to: int) -> None:
        clock = await self.sandbox.api.v1.test_helpers.test_clocks.advance_async(self.clock, {"frozen_time": to})
        assert (clock.status, clock.frozen_time) == ("ready", to)

    async def now(self, subscription: stripe.Subscription) -> stripe.Subscription:
        return await self.sandbox.api.v1.subscriptions.retrieve_async(subscription.id)

    async def invoices(self) -> list[tuple[str | None, str | None, int]]:
        """Reason, status and amount due, oldest first."""
        listed = await self.sandbox.api.v1.invoices.list_async({"customer": self.customer})
        return [(each.billing_reason, each.status, each.amount_due) for each in reversed(listed.data)]


async def subscriber(sandbox: Sandbox, interval: str = "month") -> Subscriber:
    """Somebody who may subscribe for 20 USD."""
    api = sandbox.api.v1
    clock = await api.test_helpers.test_clocks.create_async({"frozen_time": START})
    customer = await api.customers.create_async({"email": "a@example.com", "test_clock": clock.id})
    product = await api.products.create_async({"id": "treats", "name": "A box of treats"})
    recurring: Any = {"interval": interval}
    price = await api.prices.create_async(
        {"product": product.id, "unit_amount": 2000, "currency": "usd", "recurring": recurring, "lookup_key": "treats"}
    )
    return Subscriber(sandbox, clock.id, customer.id, price.id)


def ends(subscription: stripe.Subscription) -> int:
    items: Sequence[stripe.SubscriptionItem] = subscription["items"].data
    return items[0].current_period_end


async def test_the_first_period_is_paid_at_once(sandbox: Sandbox) -> None:
    """Active, one paid invoice, and the documented events in order."""
    ada = await subscriber(sandbox)
    await ada.use(GOOD)
    before = len(await sandbox.event_types())
    subscription = await ada.subscribe(metadata={"plan": "treats"})
    assert (subscription.status, ends(subscription)) == ("active", FEBRUARY)
    assert await ada.invoices() == [("subscription_create", "paid", 2000)]
    assert (await sandbox.event_types())[before:] == [
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
    ]
    invoice = await sandbox.api.v1.invoices.retrieve_async(str(subscription.latest_invoice), {"expand": ["payments"]})
    assert invoice.parent is not None
    assert invoice.parent.subscription_details is not None
    assert invoice.parent.subscription_details.subscription == subscription.id
    assert invoice.payments is not None
    intent = str(invoice.payments.data[0].payment.payment_intent)
    links = await sandbox.api.v1.invoice_payments.list_async(
        {"payment": {"type": "payment_intent", "payment_intent": intent}}
    )
    assert [(link.invoice, link.status, link.amount_paid) for link in links.data] == [(invoice.id, "paid", 2000)]


async def test_a_clock_that_moves_renews(sandbox: Sandbox) -> None:
    """The 31st is the last of February, and the 31st again in March; a leap of two months bills twice."""
    ada = await subscriber(sandbox)
    await ada.use(GOOD)
    subscription = await ada.subscribe()
    await ada.advance(FEBRUARY)
    assert ends(await ada.now(subscription)) == MARCH
    await ada.advance(MARCH + 31 * 86_400)
    assert [reason for reason, status, _ in await ada.invoices() if status == "paid"] == [
        "subscription_create",
        *["subscription_cycle"] * 3,
    ]
    assert "test_helpers.test_clock.ready" in await sandbox.event_types()


async def test_a_refused_renewal_is_past_due_until_it_is_paid(sandbox: Sandbox) -> None:
    """The customer's new card pays the open invoice, and the subscription is active again."""
    ada = await subscriber(sandbox)
    await ada.use(GOOD)
    subscription = await ada.subscribe()
    await ada.use(REFUSED)
    await ada.advance(FEBRUARY)
    late = await ada.now(subscription)
    assert late.status == "past_due"
    assert (await ada.invoices())[-1] == ("subscription_cycle", "open", 2000)
    assert "invoice.payment_failed" in await sandbox.event_types()
    await ada.use(GOOD)
    assert (await sandbox.api.v1.invoices.pay_async(str(late.latest_invoice))).status == "paid"
    assert (await ada.now(subscription)).status == "active"


async def test_the_customer_confirms_the_first_payment(sandbox: Sandbox) -> None:
    """`default_incomplete` gives a client secret; paying it activates, and the card is kept for renewals."""
    ada = await subscriber(sandbox)
    subscription = await ada.subscribe(
        payment_behavior="default_incomplete",
        payment_settings={"save_default_payment_method": "on_subscription"},
        expand=["latest_invoice.confirmation_secret"],
    )
    assert subscription.status == "incomplete"
    assert isinstance(subscription.latest_invoice, stripe.Invoice)
    assert subscription.latest_invoice.confirmation_secret is not None
    intent = subscription.latest_invoice.confirmation_secret.client_secret.partition("_secret_")[0]
    await sandbox.pay(intent)
    assert (await ada.now(subscription)).status == "active"
    await ada.advance(FEBRUARY)
    assert (await ada.now(subscription)).status == "active"


async def test_a_first_payment_that_is_refused(sandbox: Sandbox) -> None:
    """Incomplete by default; with `error_if_incomplete` nothing is left of it."""
    ada = await subscriber(sandbox)
    await ada.use(REFUSED)
    assert (await ada.subscribe()).status == "incomplete"
    with pytest.raises(stripe.CardError):
        await ada.subscribe(payment_behavior="error_if_incomplete")
    assert len(await ada.invoices()) == 1


async def test_nobody_pays_the_first_invoice(sandbox: Sandbox) -> None:
    """After 23 hours it is over, and can no longer be paid."""
    ada = await subscriber(sandbox)
    plain = await sandbox.api.v1.customers.create_async({"email": "b@example.com"})
    subscription = await ada.subscribe(customer=plain.id, expand=["latest_invoice.confirmation_secret"])
    sandbox.clock.ahead = 24 * 3600
    await sandbox.intent()  # wakes the dispatcher
    await sandbox.receiver.wait_for("invoice.voided")
    assert (await ada.now(subscription)).status == "incomplete_expired"
    assert isinstance(subscription.latest_invoice, stripe.Invoice)
    assert subscription.latest_invoice.confirmation_secret is not None
    intent = subscription.latest_invoice.confirmation_secret.client_secret.partition("_secret_")[0]
    await sandbox.pay(intent, status=400)


async def test_it_ends_with_its_period_unless_it_is_resumed(sandbox: Sandbox) -> None:
    """Cancelled at the period's end, resumed, cancelled again: then it ends, and is not charged any more."""
    ada = await subscriber(sandbox)
    await ada.use(GOOD)
    subscription, api = await ada.subscribe(), sandbox.api.v1.subscriptions
    ending = await api.update_async(subscription.id, {"cancel_at_period_end": True})
    assert (ending.status, ending.cancel_at) == ("active", FEBRUARY)
    await api.update_async(subscription.id, {"cancel_at_period_end": False})
    await ada.advance(FEBRUARY)
    await api.update_async(subscription.id, {"cancel_at_period_end": True})
    await ada.advance(MARCH)
    ended = await ada.now(subscription)
    assert (ended.status, ended.ended_at) == ("canceled", MARCH)
    assert "customer.subscription.deleted" in await sandbox.event_types()
    assert len(await ada.invoices()) == 2
    with pytest.raises(stripe.InvalidRequestError):
        await api.update_async(subscription.id, {"cancel_at_period_end": False})
    assert (await api.list_async({"customer": ada.customer})).data == []
    assert len((await api.list_async({"customer": ada.customer, "status": "all"})).data) == 1


async def test_without_a_test_clock_time_is_everybodys(sandbox: Sandbox) -> None:
    """A period ends when it ends, or when the sandbox is told so; both at once renew it once."""
    ada = await subscriber(sandbox, "day")
    plain = await sandbox.api.v1.customers.create_async({"email": "b@example.com"})
    card = await sandbox.api.v1.payment_methods.attach_async(GOOD, {"customer": plain.id})
    subscription = await ada.subscribe(customer=plain.id, default_payment_method=card.id)
    renewed = await sandbox.act(f"subscriptions/{subscription.id}/renew")
    assert renewed["status"] == "active"
    sandbox.clock.ahead = 86_400 + 60
    await sandbox.intent()
    listed = await sandbox.api.v1.invoices.list_async({"subscription": subscription.id})
    assert len(listed.data) == 2


async def test_what_stripe_refuses(sandbox: Sandbox) -> None:
    """Unknown prices, prices that are paid once, cards of others, clocks that run backwards, names that are taken."""
    ada, api = await subscriber(sandbox), sandbox.api.v1
    once = await api.prices.create_async({"product": "treats", "unit_amount": 5, "currency": "usd"})
    foreign = await api.payment_methods.create_async({"type": "card", "card": {"token": "tok_visa"}})
    refused: list[dict[str, Any]] = [
        {"items": [{"price": "price_none"}]},
        {"items": [{"price": once.id}]},
        {"items": []},
        {"customer": "cus_none"},
        {"default_payment_method": foreign.id},
    ]
    for params in refused:
        with pytest.raises(stripe.InvalidRequestError):
            await ada.subscribe(**params)
    with pytest.raises(stripe.InvalidRequestError):
        await api.test_helpers.test_clocks.advance_async(ada.clock, {"frozen_time": START})
    with pytest.raises(stripe.InvalidRequestError) as taken:
        await api.products.create_async({"id": "treats", "name": "Again"})
    assert taken.value.code == "resource_already_exists"
    with pytest.raises(stripe.InvalidRequestError):
        await api.prices.create_async(
            {"product": "treats", "unit_amount": 5, "currency": "usd", "lookup_key": "treats"}
        )
    found = await api.prices.list_async({"lookup_keys": ["treats"]})
    assert [price.id for price in found.data] == [ada.price]


@pytest.mark.parametrize(
    ("interval", "count", "expected"),
    [
        ("day", 1, datetime(2027, 2, 1, 12, tzinfo=UTC)),
        ("week", 2, datetime(2027, 2, 14, 12, tzinfo=UTC)),
        ("month", 1, datetime(2027, 2, 28, 12, tzinfo=UTC)),
        ("month", 3, datetime(2027, 4, 30, 12, tzinfo=UTC)),
        ("year", 1, datetime(2028, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_periods_are_counted_from_the_anchor(interval: str, count: int, expected: datetime) -> None:
    """A month ends on its last day when it is too short for the anchor's."""
    assert end_after(START, interval, count, START) == int(expected.timestamp())


async def test_plans_are_seeded_once(sandbox: Sandbox) -> None:
    """Also when a seeder died between a product and its price."""
    await sandbox.api.v1.products.create_async({"id": PLANS[0].product, "name": "half done"})
    assert [await asyncio.to_thread(seed, sandbox.url, API_KEY) for _ in range(2)] == [len(PLANS), 0]
    keys = [plan.lookup_key for plan in PLANS]
    prices = await sandbox.api.v1.prices.list_async({"lookup_keys": keys, "type": "recurring"})
    assert {price.lookup_key: price.unit_amount for price in prices.data} == {
        plan.lookup_key: plan.amount for plan in PLANS
    }
