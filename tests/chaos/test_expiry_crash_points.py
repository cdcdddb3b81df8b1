"""What if we die here? While an order is given up or its time is up."""

import uuid
from typing import Any

import httpx
import pytest

from deploy.local.demo.shopper import Shopper, eventually
from tests.chaos.mortal import (
    Mortal,
    Purchase,
    assert_books,
    assert_bought,
    mortal,
    order,
    points,
    shopper,
    states,
    system,
)
from tests.chaos.points import CANCEL, DIES, EXPIRY, some
from tests.e2e.expiry import let_it_expire

__all__ = ["mortal", "points", "shopper", "system"]


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
    async with mortal.dying(DIES[point], point):
        await let_it_expire(mortal.system, purchase.checkout["order_id"])
    await shopper.wait_for(purchase.checkout, "cancelled", seconds=60)
    await mortal.rest()
    assert await states(mortal, purchase) == {"order": "cancelled", "stock": "released", "hold": "released"}
    assert await mortal.observer.on_hand(purchase.variant) == purchase.stock
    assert (await shopper.pay(purchase.checkout)).status_code == 400
    await assert_books(mortal)


@pytest.mark.long
async def test_an_expiry_that_finds_money_survives_death(mortal: Mortal, shopper: Shopper) -> None:
    """The webhook is lost and the time is up: the hold was extended when the process died, and the order is paid."""
    purchase = await order(mortal, shopper)
    intent = purchase.checkout["payment"]["payment_intent_id"]
    await shopper.order_fault(on="webhook", fault="drop", type="payment_intent.succeeded", payment_intent=intent)
    (await shopper.pay(purchase.checkout)).raise_for_status()
    async with mortal.dying("orders", EXPIRY):
        await let_it_expire(mortal.system, purchase.checkout["order_id"])
    await shopper.wait_for(purchase.checkout, "pending")
    events = [each for each in await shopper.deliveries(intent) if each["type"] == "payment_intent.succeeded"]
    await shopper.redeliver(events[0]["event_id"], 1)
    await assert_bought(mortal, purchase, mails=1)


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
