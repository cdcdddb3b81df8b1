"""Expiry never races payment: Stripe is asked first, and only its word ends an order."""

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.system import System
from tests.e2e.expiry import let_it_expire


async def test_an_unpaid_order_expires_and_its_stock_comes_back(
    system: System, shopper: Shopper, observer: Observer
) -> None:
    """Cancelled at Stripe, then here; the pieces are on sale again and nobody can pay any more."""
    chosen = await shopper.choose()
    variant = chosen["variant"]["id"]
    before = await observer.on_hand(variant)
    await shopper.add(variant, 1)
    checkout = (await shopper.checkout()).json()
    await let_it_expire(system, checkout["order_id"])
    await shopper.wait_for(checkout, "cancelled")

    async def released() -> bool:
        return await observer.on_hand(variant) == before

    await eventually(released, "the stock to be released")
    assert (await shopper.pay(checkout)).status_code == 400


async def test_an_order_whose_payment_is_known_only_to_stripe_does_not_expire(
    system: System, shopper: Shopper, observer: Observer
) -> None:
    """The webhook is lost, the time is up: the hold is extended, and the late event finds the order payable."""
    chosen = await shopper.choose()
    await shopper.add(chosen["variant"]["id"], 1)
    checkout = (await shopper.checkout()).json()
    intent = checkout["payment"]["payment_intent_id"]
    await shopper.order_fault(on="webhook", fault="drop", type="payment_intent.succeeded", payment_intent=intent)
    await shopper.pay(checkout)
    await let_it_expire(system, checkout["order_id"])

    async def snoozed() -> bool:
        query = """
            SELECT run_at > now() FROM jobs
             WHERE kind = 'expire_order' AND payload ->> 'order_id' = $1 AND state = 'queued' AND fence > 0
        """
        return bool(await observer.value("orders", query, checkout["order_id"]))

    await eventually(snoozed, "the expiry to look and come back later")
    assert await shopper.status(checkout) == "pending"
    events = [each for each in await shopper.deliveries(intent) if each["type"] == "payment_intent.succeeded"]
    await shopper.redeliver(events[0]["event_id"], 1)
    await shopper.wait_for(checkout, "paid")
