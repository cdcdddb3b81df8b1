"""What was put into a cart beside what was ordered is still there when the order is paid."""

import asyncio
from typing import Any

import pytest

from tests.integration.orders.support import Orders
from tests.integration.orders.test_carts import put_in, until_waiting
from tests.integration.orders.test_coupons_and_tax import coupon


def pieces(cart: dict[str, Any]) -> dict[str, int]:
    """How many of which variant."""
    return {item["variant_id"]: item["quantity"] for item in cart["items"]}


@pytest.mark.parametrize("who", ["guest", "customer"])
async def test_only_what_was_ordered_leaves_the_cart(shop_orders: Orders, who: str) -> None:
    """Whole lines and pieces of one; Stripe's word told twice takes nothing twice; the rest can be ordered."""
    buyer = shop_orders.guest() if who == "guest" else shop_orders.customer()
    ordered, more, other = [str(await shop_orders.shop.variant(9)) for _ in range(3)]
    checkout = await shop_orders.buy(buyer, ordered, more, quantity=2)
    await shop_orders.add(buyer, more, 3)
    before = await shop_orders.add(buyer, other)
    await shop_orders.pays(checkout)
    await shop_orders.settle()
    await shop_orders.deliver(again=True)
    await shop_orders.settle()
    rest = (await buyer.get("/api/cart")).json()
    assert (rest["id"], pieces(rest)) == (before["id"], {more: 3, other: 1})
    second = await shop_orders.checkout(buyer)
    assert second.status_code == 201, second.text
    await shop_orders.pays(second.json())
    await shop_orders.settle()
    assert pieces((await buyer.get("/api/cart")).json()) == {}
    assert await shop_orders.value("SELECT count(*) FROM orders WHERE status = 'paid'") == 2
    assert await shop_orders.value("SELECT count(*) FROM carts WHERE state = 'ordered'") == 2


async def test_a_coupon_is_spent_with_its_order(shop_orders: Orders) -> None:
    """The rest of the cart does not claim it again."""
    await coupon(shop_orders, "ONCE")
    guest = shop_orders.guest()
    first, other = [str(await shop_orders.shop.variant(9)) for _ in range(2)]
    await shop_orders.add(guest, first)
    assert (await guest.post("/api/cart/coupon", json={"code": "ONCE"})).is_success
    checkout = (await shop_orders.checkout(guest)).json()
    await shop_orders.add(guest, other)
    await shop_orders.pays(checkout)
    await shop_orders.settle()
    rest = (await guest.get("/api/cart")).json()
    assert (pieces(rest), rest["coupon"]) == ({other: 1}, None)


async def test_what_is_put_in_while_the_money_arrives_stays(shop_orders: Orders) -> None:
    """The payment waits for the cart, looks at it again, and is taken once."""
    guest, variant = shop_orders.guest(), await shop_orders.shop.variant(9)
    checkout = await shop_orders.buy(guest, variant)
    cart = str(await shop_orders.value("SELECT id FROM carts"))
    await shop_orders.pays(checkout)
    locked, waited = asyncio.Event(), asyncio.Event()

    async def elsewhere() -> None:
        async with shop_orders.runtime.database.transaction() as connection:
            await connection.execute("UPDATE carts SET updated_at = now() WHERE id = $1", cart)
            locked.set()
            await waited.wait()
            await put_in(connection, cart)

    other = asyncio.create_task(elsewhere())
    await locked.wait()
    paying = asyncio.create_task(shop_orders.settle())
    await until_waiting(shop_orders)
    waited.set()
    await other
    await paying
    assert await shop_orders.value("SELECT status FROM orders") == "paid"
    assert await shop_orders.value("SELECT count(*) FROM order_payments") == 1
    assert [item["title"] for item in (await guest.get("/api/cart")).json()["items"]] == ["Theirs"]
