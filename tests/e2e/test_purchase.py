"""One purchase through real parts."""

import asyncio
import uuid

from rich.console import Console

from deploy.local.demo.observe import Observer
from deploy.local.demo.report import Report
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.demo.story import Story
from deploy.local.system import System


async def test_the_demonstration_keeps_every_promise(system: System) -> None:
    """Double click, five webhooks at once and late, twenty campaign clicks: every promise is seen to hold."""
    report = Report(Console(quiet=True))
    await Story(system.endpoints, system.state.logs, report).tell()
    assert [line for line in report.kept if not line[2]] == []
    assert len(report.kept) >= 15


async def test_a_changed_body_under_the_same_key_is_refused(shopper: Shopper) -> None:
    """The key belongs to what was asked first."""
    chosen = await shopper.choose()
    await shopper.add(chosen["variant"]["id"], 1)
    key = str(uuid.uuid4())
    first = await shopper.checkout(key)
    shopper.email = "somebody.else@example.com"
    second = await shopper.checkout(key)
    assert (first.status_code, second.status_code) == (201, 422)
    assert second.json()["code"] == "idempotency_key_reused"


async def test_another_key_on_the_same_cart_gets_the_winners_answer(shopper: Shopper, observer: Observer) -> None:
    """Two tabs, two keys, one cart: one order, and both see it."""
    chosen = await shopper.choose()
    await shopper.add(chosen["variant"]["id"], 1)
    answers = await asyncio.gather(*(shopper.checkout() for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["order_id"] for answer in answers}) == 1
    orders = "SELECT count(*) FROM orders WHERE email = $1"
    assert await observer.value("orders", orders, shopper.email) == 1


async def test_a_declined_card_leaves_the_order_payable(shopper: Shopper) -> None:
    """After a decline the same order is paid with another card, and charged once."""
    chosen = await shopper.choose()
    await shopper.add(chosen["variant"]["id"], 1)
    checkout = (await shopper.checkout()).json()
    assert (await shopper.pay(checkout, "4000000000000002")).status_code == 402
    assert await shopper.status(checkout) == "pending"
    assert (await shopper.pay(checkout)).status_code == 200
    await shopper.wait_for(checkout, "paid")


async def test_a_cancelled_checkout_gives_the_stock_back_and_cannot_be_paid(
    shopper: Shopper, observer: Observer
) -> None:
    """Stripe is asked first; after that nobody can pay and the pieces are on sale again."""
    chosen = await shopper.choose()
    variant = chosen["variant"]["id"]
    before = await observer.on_hand(variant)
    await shopper.add(variant, 1)
    checkout = (await shopper.checkout()).json()
    assert (await observer.on_hand(variant))[1] == before[1] + 1
    path, token = f"/api/checkout/{checkout['id']}/cancel", {"token": checkout["checkout_token"]}
    for _ in range(2):
        answer = await shopper.http.post(path, params=token)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert (await shopper.pay(checkout)).status_code == 400

    async def released() -> bool:
        return await observer.on_hand(variant) == before

    await eventually(released, "the stock to be released")


async def test_a_lost_stripe_answer_makes_no_second_intent(shopper: Shopper, observer: Observer) -> None:
    """Stripe does the work and never answers: the retry finds the same intent."""
    chosen = await shopper.choose()
    await shopper.add(chosen["variant"]["id"], 1)
    await shopper.order_fault(
        on="api", method="POST", path="/v1/payment_intents", fault="timeout_after_effect", times=1
    )
    checkout = await shopper.checkout_until_answered(str(uuid.uuid4()))
    account = (await observer.ledger())["orders"][checkout["order_id"]]
    assert account["payment_intents"] == [checkout["payment"]["payment_intent_id"]]
