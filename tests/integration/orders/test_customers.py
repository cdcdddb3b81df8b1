"""Carts and orders belong to who is signed in, else to who holds the cookie; nobody sees anybody else's."""

import asyncio
import uuid

import httpx
import pytest

from reliability.context import Principal
from services.orders.cart.cookie import Signer
from tests.integration.orders.support import Orders, key


async def test_a_customer_has_one_cart_on_every_device(shop_orders: Orders) -> None:
    """Twenty first additions at once from two devices: one cart, twenty pieces."""
    variant, customer = await shop_orders.shop.variant(50), str(uuid.uuid4())
    devices = [shop_orders.customer(customer_id=customer) for _ in range(2)]
    carts = await asyncio.gather(*(shop_orders.add(devices[turn % 2], variant) for turn in range(20)))
    assert len({cart["id"] for cart in carts}) == 1
    cart = (await devices[0].get("/api/cart")).json()
    assert [item["quantity"] for item in cart["items"]] == [20]
    assert await shop_orders.value("SELECT count(*) FROM carts WHERE customer_id = $1", customer) == 1


async def test_a_cookie_does_not_open_a_customers_cart(shop_orders: Orders) -> None:
    """The cart of a customer cannot be had with its id, signed or not; a bad token is 401, never a guest."""
    variant = await shop_orders.shop.variant()
    mine = shop_orders.customer()
    cart = await shop_orders.add(mine, variant)
    signer = Signer("a secret of thirty-two characters", secure=False)
    guest = shop_orders.guest()
    guest.headers["Cookie"] = signer.cart_cookie(cart["id"]).partition(";")[0]
    assert (await guest.get("/api/cart")).json()["items"] == []
    mine.headers["Authorization"] = "Bearer not-a-token"
    for method, path in (("GET", "/api/cart"), ("POST", "/api/cart/merge"), ("GET", "/api/me/orders")):
        assert (await mine.request(method, path)).status_code == 401


async def test_logging_in_keeps_what_the_guest_chose(shop_orders: Orders) -> None:
    """Both carts become one, at most a hundred of a kind; asked again, nothing is added again."""
    shared, chosen = await shop_orders.shop.variant(500), await shop_orders.shop.variant()
    who = Principal(str(uuid.uuid4()), "customer")
    before = shop_orders.as_customer(shop_orders.guest(), who)
    await shop_orders.add(before, shared, 60)
    browser = shop_orders.guest()
    await shop_orders.add(browser, shared, 60)
    await shop_orders.add(browser, chosen, 2)
    shop_orders.as_customer(browser, who)
    answers = [await browser.post("/api/cart/merge", headers=key()) for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 200
        quantities = {item["variant_id"]: item["quantity"] for item in answer.json()["items"]}
        assert quantities == {str(shared): 100, str(chosen): 2}
    del browser.headers["Authorization"]
    assert (await browser.get("/api/cart")).json()["items"] == []


async def test_merging_never_loses_an_addition(shop_orders: Orders) -> None:
    """Ten additions as a guest race the merge: each ends in the customer's cart or in a guest's, none in both."""
    variant = await shop_orders.shop.variant(100)
    who = Principal(str(uuid.uuid4()), "customer")
    guest = shop_orders.guest()
    await shop_orders.add(guest, variant)
    signed_in = shop_orders.as_customer(shop_orders.guest(), who)
    signed_in.cookies.update(guest.cookies)
    await asyncio.gather(
        *(shop_orders.add(guest, variant) for _ in range(10)),
        *(signed_in.post("/api/cart/merge") for _ in range(3)),
    )
    pieces = """
        SELECT sum(quantity) FROM cart_items JOIN carts ON carts.id = cart_id WHERE state = 'open'
    """
    assert await shop_orders.value(pieces) == 11
    await signed_in.post("/api/cart/merge")
    assert await shop_orders.value("SELECT count(*) FROM carts WHERE state = 'open' AND customer_id = $1", who.id) == 1


async def test_a_cart_whose_order_waits_for_payment_is_not_merged(shop_orders: Orders) -> None:
    """Else its goods would be in a cart again, and be bought twice."""
    variant = await shop_orders.shop.variant()
    browser = shop_orders.guest()
    checkout = await shop_orders.buy(browser, variant)
    shop_orders.as_customer(browser, Principal(str(uuid.uuid4()), "customer"))
    assert (await browser.post("/api/cart/merge")).json()["items"] == []
    await shop_orders.pay(checkout)
    assert (await browser.get("/api/cart")).json()["items"] == []


async def test_orders_are_listed_to_their_customer_only(shop_orders: Orders) -> None:
    """Pages, newest first; another customer's order, a guest's, and what is no id at all are 404."""
    mine, other, guest = shop_orders.customer(), shop_orders.customer("kim"), shop_orders.guest()
    placed = []
    for _ in range(3):
        checkout = await shop_orders.buy(mine, await shop_orders.shop.variant())
        await shop_orders.pay(checkout)
        placed.append(checkout["id"])
    foreign = await shop_orders.buy(guest, await shop_orders.shop.variant())
    first = (await mine.get("/api/me/orders", params={"limit": 2})).json()
    second = (await mine.get("/api/me/orders", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for page in (first, second) for item in page["items"]] == placed[::-1]
    assert second["next_cursor"] is None
    assert (await other.get("/api/me/orders")).json() == {"items": [], "next_cursor": None}
    for order_id in (placed[0], foreign["id"], "nonsense", str(uuid.uuid4())):
        answers = [
            await other.get(f"/api/me/orders/{order_id}"),
            await other.post(f"/api/me/orders/{order_id}/cancel", headers=key()),
            await other.post(f"/api/me/orders/{order_id}/reorder", headers=key()),
        ]
        assert {answer.status_code for answer in answers} == {404}
    assert (await guest.get("/api/me/orders")).status_code == 401


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"cursor": "?"}, {"cursor": "AAAA"}, {"page": "2"}]
)
async def test_a_bad_page_is_refused(shop_orders: Orders, query: dict[str, str]) -> None:
    """422 with the field; never page one instead."""
    answer = await shop_orders.customer().get("/api/me/orders", params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_the_timeline_tells_who_and_why(shop_orders: Orders) -> None:
    """From the click to the refund, each with the correlation id of its flow."""
    customer = shop_orders.customer()
    customer.headers["X-Correlation-ID"] = "flow-of-robin"
    checkout = await shop_orders.buy(customer, await shop_orders.shop.variant(price=1000))
    await shop_orders.pay(checkout)
    await shop_orders.work()
    await shop_orders.refunded(checkout, 300, "re_1")
    order = (await customer.get(f"/api/me/orders/{checkout['id']}")).json()
    assert [(event["status"], event["actor"]) for event in order["timeline"]] == [
        ("pending", "customer"),
        ("paid", "payments"),
        ("paid", "orders"),
        ("partially_refunded", "payments"),
    ]
    assert {event["correlation_id"] for event in order["timeline"]} == {"flow-of-robin"}
    assert order["refunded"]["amount"] == 300
    assert order["payment"] is None


async def test_spending_counts_what_was_kept(shop_orders: Orders) -> None:
    """Refunds are taken off, an order that went back whole does not count, pending ones neither."""
    shop, customer = shop_orders.shop, shop_orders.customer()
    toys = await shop.variant(price=6000, product=await shop.product(f"toy-{uuid.uuid4().hex}", category="toys"))
    beds = await shop.variant(price=8001, product=await shop.product(f"bed-{uuid.uuid4().hex}", category="beds"))
    for variant, back in ((toys, 0), (beds, 1000), (beds, 8001)):
        checkout = await shop_orders.buy(customer, variant)
        await shop_orders.pay(checkout)
        if back:
            await shop_orders.refunded(checkout, back, f"re_{uuid.uuid4().hex}")
    await shop_orders.buy(customer, toys)
    spending = (await customer.get("/api/me/spending")).json()
    assert (spending["orders"], spending["lifetime"]["amount"]) == (2, 6000 + 8001 - 1000)
    assert spending["average"] == {"amount": 6501, "currency": "USD"}  # 6500.5, half up
    assert [month["spent"]["amount"] for month in spending["by_month"]] == [13001]
    assert {each["category"]: each["spent"]["amount"] for each in spending["by_category"]} == {
        "toys": 6000,
        "beds": 8001,
    }
    assert (await customer.get("/api/me/spending", params={"currency": "usd"})).status_code == 422
    assert (await customer.get("/api/me/spending", params={"currency": "EUR"})).json()["orders"] == 0


async def test_cancelling_an_order_is_asked_once(shop_orders: Orders) -> None:
    """It takes a key; the answer is replayed, the stock is back, and a paid order is not cancelled."""
    variant, customer = await shop_orders.shop.variant(5), shop_orders.customer()
    checkout = await shop_orders.buy(customer, variant, quantity=2)
    path, header = f"/api/me/orders/{checkout['id']}/cancel", key()
    assert (await customer.post(path)).json()["code"] == "idempotency_key_missing"
    answers = [await customer.post(path, headers=header) for _ in range(2)]
    assert [answer.json()["status"] for answer in answers] == ["cancelled", "cancelled"]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    await shop_orders.work()
    assert await shop_orders.shop.counts(variant) == (5, 0)
    again = await shop_orders.checkout(customer)
    await shop_orders.pay(again.json())
    refused = await customer.post(f"/api/me/orders/{again.json()['id']}/cancel", headers=key())
    assert (refused.status_code, refused.json()["code"]) == (409, "checkout_closed")


async def test_buying_again_takes_what_is_there(shop_orders: Orders) -> None:
    """At today's price, as much as there is; a click twice fills the cart once."""
    shop, customer = shop_orders.shop, shop_orders.customer()
    plenty, scarce = await shop.variant(50, price=100), await shop.variant(4)
    checkout = await shop_orders.buy(customer, plenty, scarce, quantity=3)
    await shop_orders.pay(checkout)
    await shop_orders.work()
    await shop.fetch("UPDATE variants SET price = 150 WHERE id = $1", plenty)
    header = key()
    first, second = [await customer.post(f"/api/me/orders/{checkout['id']}/reorder", headers=header) for _ in range(2)]
    assert first.json() == second.json()
    items = {item["variant_id"]: item for item in first.json()["cart"]["items"]}
    assert (items[str(plenty)]["quantity"], items[str(plenty)]["unit_price"]["amount"]) == (3, 150)
    assert items[str(scarce)]["quantity"] == 1
    assert [line["variant_id"] for line in first.json()["unavailable"]] == [str(scarce)]


async def test_catalog_learns_who_bought(shop_orders: Orders) -> None:
    """So that only who bought may review; a guest stays nobody."""
    variant, who = await shop_orders.shop.variant(), str(uuid.uuid4())
    for client in (shop_orders.customer(customer_id=who), shop_orders.guest()):
        await shop_orders.pay(await shop_orders.buy(client, variant))
    await shop_orders.work()
    buyers = await shop_orders.shop.fetch("SELECT customer_id::text AS id FROM sales WHERE variant_id = $1", variant)
    assert {row["id"] for row in buyers} == {who, None}


async def test_one_currency_in_a_cart(shop_orders: Orders) -> None:
    """Money of two currencies is never added up."""
    shop, guest = shop_orders.shop, shop_orders.guest()
    await shop_orders.add(guest, await shop.variant())
    product = await shop.product(f"euro-{uuid.uuid4().hex}")
    await shop.fetch("UPDATE products SET currency = 'EUR' WHERE id = $1", product)
    answer: httpx.Response = await guest.post(
        "/api/cart/items", json={"variant_id": str(await shop.variant(product=product)), "quantity": 1}
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/variant_id")
