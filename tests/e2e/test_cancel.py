"""A checkout that is given up, and one that cannot be paid: the pieces go back on sale, and nothing stays open."""

import asyncio
import uuid

import asyncpg

from deploy.local.databases import database_of, database_url
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.system import System


async def test_a_cancelled_checkout_gives_the_pieces_back_once(shopper: Shopper, observer: Observer) -> None:
    """However often and with whatever key it is asked; the intent is closed at Stripe before that."""
    variant = (await shopper.choose(at_least=2))["variant"]["id"]
    stock = await observer.on_hand(variant)
    (await shopper.add(variant, 2)).raise_for_status()
    checkout = (await shopper.checkout()).json()
    assert await observer.on_hand(variant) != stock
    url, token = f"/api/checkout/{checkout['id']}/cancel", {"token": checkout["checkout_token"]}
    key = {"Idempotency-Key": str(uuid.uuid4())}

    assert (await shopper.http.post(url, params={"token": "forged"})).status_code == 404
    answers = await asyncio.gather(*(shopper.http.post(url, params=token) for _ in range(5)))
    first = await shopper.http.post(url, params=token, headers=key)
    again = await shopper.http.post(url, params=token, headers=key)
    assert {answer.status_code for answer in (*answers, first, again)} == {200}
    assert {answer.json()["status"] for answer in (*answers, first, again)} == {"cancelled"}
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    other = await shopper.http.post(url, params=token, headers=key, content=b"{}")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    async def returned() -> bool:
        return await observer.on_hand(variant) == stock

    await eventually(returned, "the pieces to come back")
    assert (await shopper.pay(checkout)).status_code == 400
    anew = await shopper.checkout()  # the cart can be ordered again
    assert anew.status_code == 201
    closed = await shopper.http.post(
        f"/api/checkout/{anew.json()['id']}/cancel", params={"token": anew.json()["checkout_token"]}
    )
    assert closed.status_code == 200


async def test_a_paid_checkout_is_not_cancelled(shopper: Shopper) -> None:
    """The refusal does not use the key up."""
    variant = (await shopper.choose(at_least=1))["variant"]["id"]
    (await shopper.add(variant, 1)).raise_for_status()
    checkout = (await shopper.checkout()).json()
    await shopper.pay(checkout)
    await shopper.wait_for(checkout, "paid")
    url, token = f"/api/checkout/{checkout['id']}/cancel", {"token": checkout["checkout_token"]}
    key = {"Idempotency-Key": str(uuid.uuid4())}
    for _ in range(2):
        refused = await shopper.http.post(url, params=token, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (409, "checkout_closed")


async def test_an_amount_that_stripe_refuses_ends_the_order(
    system: System, shopper: Shopper, observer: Observer
) -> None:
    """422 with the reason; the order is cancelled and the pieces are free again."""
    variant = (await shopper.choose(at_least=1))["variant"]["id"]
    stock = await observer.on_hand(variant)
    catalog = await asyncpg.connect(database_url(system.endpoints.postgres, database_of("catalog")))
    price = await catalog.fetchval("SELECT price FROM variants WHERE id = $1", variant)
    await catalog.execute("UPDATE variants SET price = 100000000 WHERE id = $1", variant)
    try:
        (await shopper.add(variant, 1)).raise_for_status()
        refused = await shopper.checkout()
        assert (refused.status_code, refused.json()["code"]) == (422, "amount_refused")
        status = "SELECT status FROM orders WHERE email = $1"
        assert await observer.value("orders", status, shopper.email) == "cancelled"

        async def returned() -> bool:
            return await observer.on_hand(variant) == stock

        await eventually(returned, "the pieces to come back")
    finally:
        await catalog.execute("UPDATE variants SET price = $2 WHERE id = $1", variant, price)
        await catalog.close()
