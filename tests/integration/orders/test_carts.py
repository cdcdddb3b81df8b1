"""Putting something into a cart: one statement on the usual way, and never past what a cart may hold."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reliability.postgres import Connection
from tests.integration.catalog.support import counting
from tests.integration.orders.support import Orders, key

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def until_waiting(orders: Orders) -> None:
    """Until a statement waits for a lock in this database."""
    while not await orders.value(_WAITING):
        await asyncio.sleep(0.01)


async def test_another_piece_is_one_round_trip(shop_orders: Orders) -> None:
    """Of a new product or of one that is there, with a coupon or without; the answer is the cart as it is then."""
    guest, other = shop_orders.guest(), await shop_orders.shop.variant(price=700)
    first = await shop_orders.shop.variant(price=500)
    await shop_orders.add(guest, first)
    for _ in range(2):  # a new connection asks for its types first
        await shop_orders.add(guest, other)
    async with counting(shop_orders.runtime.database) as statements:
        shown = await shop_orders.add(guest, first, 2)
    assert len(statements.queries) == 1
    assert [(item["quantity"], item["line_total"]["amount"]) for item in shown["items"]] == [(3, 1500), (2, 1400)]
    again = (await guest.get("/api/cart")).json()
    assert [item | {"available": None} for item in again["items"]] == shown["items"]
    assert (again["id"], again["subtotal"], again["total"]) == (shown["id"], shown["subtotal"], shown["total"])
    assert shown["subtotal"]["amount"] == 2900


async def test_under_a_key_a_piece_is_added_once(shop_orders: Orders) -> None:
    """The second click gets the first one's answer, also in a cart that is there."""
    guest, variant = shop_orders.guest(), await shop_orders.shop.variant()
    await shop_orders.add(guest, variant)
    headers, body = key(), {"variant_id": str(variant), "quantity": 1}
    answers = [(await guest.post("/api/cart/items", json=body, headers=headers)).json() for _ in range(2)]
    assert [answer["items"][0]["quantity"] for answer in answers] == [2, 2]


async def put_in(connection: Connection, cart: str) -> None:
    await connection.execute(
        """
        INSERT INTO cart_items (cart_id, variant_id, title, quantity, unit_price, currency)
        VALUES ($1, uuidv7(), 'Theirs', 1, 100, 'USD')
        """,
        cart,
    )


async def take_out(connection: Connection, cart: str) -> None:
    await connection.execute("DELETE FROM cart_items WHERE cart_id = $1", cart)


@pytest.mark.parametrize(("change", "lines"), [(put_in, 3), (take_out, 1)])
async def test_what_others_did_meanwhile_is_in_the_answer(
    shop_orders: Orders, change: Callable[[Connection, str], Awaitable[None]], lines: int
) -> None:
    """On another device something was put in, or taken out, while this one waited for the cart."""
    guest = shop_orders.guest()
    cart = await shop_orders.add(guest, await shop_orders.shop.variant())
    second = await shop_orders.shop.variant()
    locked, waited = asyncio.Event(), asyncio.Event()

    async def elsewhere() -> None:
        async with shop_orders.runtime.database.transaction() as connection:
            await connection.execute("UPDATE carts SET updated_at = now() WHERE id = $1", cart["id"])
            locked.set()
            await waited.wait()
            await change(connection, cart["id"])

    other = asyncio.create_task(elsewhere())
    await locked.wait()
    adding = asyncio.create_task(shop_orders.add(guest, second))
    await until_waiting(shop_orders)
    waited.set()
    await other
    shown = await adding
    assert len(shown["items"]) == lines


@pytest.mark.parametrize("taken", ["remove", "clear"])
async def test_taking_out_touches_the_cart(shop_orders: Orders, taken: str) -> None:
    """Whoever has read the cart before that finds out."""
    guest = shop_orders.guest()
    cart = await shop_orders.add(guest, await shop_orders.shop.variant())
    before = await shop_orders.value("SELECT updated_at FROM carts")
    path = f"/api/cart/items/{cart['items'][0]['id']}" if taken == "remove" else "/api/cart"
    assert (await guest.delete(path)).is_success
    assert await shop_orders.value("SELECT updated_at FROM carts") > before


async def test_clicks_at_once_do_not_overfill_a_cart(shop_orders: Orders) -> None:
    """Forty-eight products are in it, six more come at once: two get in, and each answer is a cart that was."""
    guest = shop_orders.guest()
    cart = await shop_orders.add(guest, await shop_orders.shop.variant())
    async with shop_orders.runtime.database.connection() as connection:
        for _ in range(47):
            await put_in(connection, cart["id"])
    variants = [await shop_orders.shop.variant() for _ in range(6)]
    answers = await asyncio.gather(
        *(guest.post("/api/cart/items", json={"variant_id": str(each), "quantity": 1}) for each in variants)
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201, 422, 422, 422, 422]
    assert sorted(len(answer.json()["items"]) for answer in answers if answer.status_code == 201) == [49, 50]
    assert await shop_orders.value("SELECT count(*) FROM cart_items") == 50


async def test_a_line_holds_a_hundred_pieces(shop_orders: Orders) -> None:
    """One more is refused, and the cart stays what it was."""
    guest, variant = shop_orders.guest(), await shop_orders.shop.variant(on_hand=1000)
    await shop_orders.add(guest, variant, 60)
    refused = await guest.post("/api/cart/items", json={"variant_id": str(variant), "quantity": 41})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/quantity")
    assert (await shop_orders.add(guest, variant, 40))["items"][0]["quantity"] == 100
