"""What if we die here? While a signed-in customer changes the way to pay, or subscribes."""

import uuid
from contextlib import suppress
from typing import Any

import httpx
import pytest

from deploy.local.credentials import load_secrets
from deploy.local.demo.shopper import Shopper, eventually
from tests.chaos.mortal import (
    Mortal,
    dying_at,
    mortal,
    order,
    points,
    post_until_answered,
    shopper,
    sign_in,
    states,
    system,
)
from tests.chaos.points import DIES, PAYING, SUBSCRIBING, some

__all__ = ["mortal", "points", "shopper", "system"]

PRICE = 2000


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
