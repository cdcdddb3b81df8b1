"""What an order costs, and that no coupon is used more often than it may be."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.integration.orders.support import ADDRESS, Orders


async def coupon(orders: Orders, code: str, kind: str = "percentage", value: int = 1000, **fields: Any) -> str:
    """A coupon of ten percent, or as given."""
    names = ["code", "kind", "value", "currency", *fields]
    values = [code, kind, value, "USD", *fields.values()]
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    return str(await orders.value(f"INSERT INTO coupons ({', '.join(names)}) VALUES ({places}) RETURNING id", *values))


async def use(orders: Orders, client: Any, code: str) -> Any:
    return await client.post("/api/cart/coupon", json={"code": code})


async def test_a_coupon_takes_off_what_it_says(shop_orders: Orders) -> None:
    """In the cart, in the checkout and in each line; taken out, it takes nothing off; asked anew, nothing changes."""
    await coupon(shop_orders, "TENOFF")
    guest = shop_orders.guest()
    await shop_orders.add(guest, await shop_orders.shop.variant(price=1005))
    cart = (await use(shop_orders, guest, " tenoff ")).json()
    assert (cart["discount"]["amount"], cart["total"]["amount"]) == (101, 904)  # 100.5, half up
    assert cart["coupon"] == {"code": "TENOFF", "applied": True, "reason": None}
    assert (await guest.delete("/api/cart/coupon")).json()["discount"]["amount"] == 0
    await use(shop_orders, guest, "TENOFF")
    checkout = (await shop_orders.checkout(guest)).json()
    assert (checkout["coupon"], checkout["discount"]["amount"], checkout["items"][0]["discount"]["amount"]) == (
        "TENOFF",
        101,
        101,
    )
    assert checkout["total"]["amount"] == 904 + 499


async def test_a_coupon_in_the_cart_after_the_order_is_told(shop_orders: Orders) -> None:
    """An order waits for payment without it: 409 says so instead of charging the old price in silence."""
    await coupon(shop_orders, "LATE")
    guest = shop_orders.guest()
    await shop_orders.buy(guest, await shop_orders.shop.variant())
    await use(shop_orders, guest, "LATE")
    refused = await shop_orders.checkout(guest)
    assert (refused.status_code, refused.json()["code"]) == (409, "cart_changed")
    assert refused.json()["changes"] == [{"field": "coupon", "ordered": None, "in_cart": "LATE"}]


async def test_twenty_buyers_of_a_coupon_that_may_be_used_once(shop_orders: Orders) -> None:
    """One order with it, nineteen clear answers; cancelled, it may be used again, and is counted exactly."""
    identifier = await coupon(shop_orders, "ONLYONE", total_limit=1)
    variant = await shop_orders.shop.variant(100)
    buyers = [shop_orders.guest() for _ in range(20)]
    for buyer in buyers:
        await shop_orders.add(buyer, variant)
        assert (await use(shop_orders, buyer, "ONLYONE")).status_code == 200
    answers = await asyncio.gather(
        *(shop_orders.checkout(buyer, email=f"{at}@example.com") for at, buyer in enumerate(buyers))
    )
    won = [answer.json() for answer in answers if answer.status_code == 201]
    lost = [answer.json() for answer in answers if answer.status_code == 409]
    assert (len(won), len(lost)) == (1, 19)
    assert {problem["code"] for problem in lost} == {"cart_changed"}
    assert {problem["changes"][0]["reason"] for problem in lost} == {"used_up"}
    assert await shop_orders.value("SELECT count(*) FROM orders") == 1
    path = f"/api/checkout/{won[0]['id']}/cancel"
    for _ in range(2):
        await buyers[0].post(path, params={"token": won[0]["checkout_token"]})
    assert await shop_orders.value("SELECT redeemed FROM coupons WHERE id = $1", identifier) == 0
    again = await asyncio.gather(*(shop_orders.checkout(buyer) for buyer in buyers))
    assert sorted(answer.status_code for answer in again) == [201] + [409] * 19


async def test_one_use_per_customer_is_per_account_and_address(shop_orders: Orders) -> None:
    """Ten carts of one address at once: one order. Signing in, or capitals in the address, earn no second use."""
    await coupon(shop_orders, "ONCEEACH", per_customer_limit=1)
    variant = await shop_orders.shop.variant(100)
    guests = [shop_orders.guest() for _ in range(10)]
    for guest in guests:
        await shop_orders.add(guest, variant)
        await use(shop_orders, guest, "ONCEEACH")
    answers = await asyncio.gather(*(shop_orders.checkout(guest) for guest in guests))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    customer = shop_orders.customer()
    await shop_orders.add(customer, variant)
    await use(shop_orders, customer, "ONCEEACH")
    refused = await shop_orders.checkout(customer, email="ROBIN@example.com")
    assert refused.json()["changes"][0]["reason"] == "used_by_customer"
    assert (await shop_orders.checkout(customer, email="kim@example.com")).status_code == 201
    second = await shop_orders.checkout(shop_orders.guest())
    assert second.json()["code"] == "cart_empty"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"minimum": 5000}, "minimum_not_reached"),
        ({"active": False}, "inactive"),
        ({"total_limit": 1, "redeemed": 1}, "used_up"),
        ({"currency": "EUR"}, "other_currency"),
    ],
)
async def test_a_coupon_that_does_not_apply_says_why(shop_orders: Orders, fields: dict[str, Any], reason: str) -> None:
    """409 with the reason; an unknown one is 422, and nothing is put into the cart."""
    code = f"C{uuid.uuid4().hex[:8]}".upper()
    values = {"currency": "USD", **fields}
    await shop_orders.execute(
        "INSERT INTO coupons (code, kind, value, currency, minimum, active, total_limit, redeemed) "
        "VALUES ($1, 'amount', 500, $2, $3, $4, $5, $6)",
        code,
        values["currency"],
        values.get("minimum", 0),
        values.get("active", True),
        values.get("total_limit"),
        values.get("redeemed", 0),
    )
    guest = shop_orders.guest()
    assert (await use(shop_orders, guest, code)).json()["code"] == "cart_empty"
    await shop_orders.add(guest, await shop_orders.shop.variant(price=1000))
    refused = await use(shop_orders, guest, code)
    assert (refused.status_code, refused.json()["code"], refused.json()["reason"]) == (409, "coupon_refused", reason)
    unknown = await use(shop_orders, guest, "NOSUCH")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_coupon")
    assert (await guest.get("/api/cart")).json()["coupon"] is None


async def test_a_coupon_that_ended_since_is_told_at_checkout(shop_orders: Orders) -> None:
    """Nobody pays more than the cart showed: 409 names the coupon, and without it the order goes through."""
    identifier = await coupon(shop_orders, "ENDING")
    guest = shop_orders.guest()
    await shop_orders.add(guest, await shop_orders.shop.variant())
    await use(shop_orders, guest, "ENDING")
    await shop_orders.execute("UPDATE coupons SET active = false WHERE id = $1", identifier)
    refused = await shop_orders.checkout(guest)
    assert (refused.status_code, refused.json()["code"]) == (409, "cart_changed")
    assert refused.json()["changes"] == [{"field": "coupon", "code": "ENDING", "reason": "inactive"}]
    assert (await guest.get("/api/cart")).json()["coupon"] == {
        "code": "ENDING",
        "applied": False,
        "reason": "inactive",
    }
    await guest.delete("/api/cart/coupon")
    assert (await shop_orders.checkout(guest)).status_code == 201


async def test_a_coupon_leaves_shipping_to_pay(shop_orders: Orders) -> None:
    """Everything off the goods: what is left is what sending them costs, which Stripe can charge."""
    await coupon(shop_orders, "ALLOFIT", value=10_000)
    guest = shop_orders.guest()
    await shop_orders.add(guest, await shop_orders.shop.variant(price=6000))
    await use(shop_orders, guest, "ALLOFIT")
    checkout = (await shop_orders.checkout(guest)).json()
    assert (checkout["subtotal"]["amount"], checkout["discount"]["amount"]) == (6000, 6000)
    assert checkout["total"]["amount"] == checkout["shipping"]["amount"] == 499


@pytest.mark.parametrize(
    ("region", "country", "tax"),
    [
        ("OR", "US", 0),
        ("CA", "US", 725),  # 7.25 % of the goods alone
        ("wa ", "US", 650 + 0),
        (None, "DE", 1900 + 285),  # and of sending them: 19 % of 14.99 is 2.8481
        (None, "BR", 0),
    ],
)
async def test_tax_follows_the_destination(shop_orders: Orders, region: str | None, country: str, tax: int) -> None:
    """By region, by country, or none for an export."""
    address = {**ADDRESS, "region": region, "country": country}
    variant = await shop_orders.shop.variant(price=10_000)
    checkout = await shop_orders.buy(shop_orders.guest(), variant, shipping_address=address)
    assert checkout["tax"]["amount"] == tax
    assert checkout["total"]["amount"] == 10_000 + checkout["shipping"]["amount"] + tax


@pytest.mark.parametrize("region", [None, "", "California", "ZZ"])
async def test_a_region_nobody_knows_is_refused(shop_orders: Orders, region: str | None) -> None:
    """A vague address is no way around tax; the key may be used again with a better one."""
    guest = shop_orders.guest()
    await shop_orders.add(guest, await shop_orders.shop.variant())
    refused = await shop_orders.checkout(guest, shipping_address={**ADDRESS, "region": region})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_region")
    assert refused.json()["errors"][0]["pointer"] == "/shipping_address/region"
    assert await shop_orders.value("SELECT count(*) FROM orders") == 0


async def test_the_cart_says_what_changed_since_it_was_shown(shop_orders: Orders) -> None:
    """Price and stock are looked up on every read; checkout refuses what was not shown and accepts what was."""
    shop, guest = shop_orders.shop, shop_orders.guest()
    dearer, scarcer = await shop.variant(10, price=1000), await shop.variant(10)
    await shop_orders.add(guest, dearer, 2)
    await shop_orders.add(guest, scarcer, 3)
    assert (await guest.get("/api/cart")).json()["changes"] == []
    await shop.fetch("UPDATE variants SET price = 1100 WHERE id = $1", dearer)
    refused = await shop_orders.checkout(guest)
    assert (refused.status_code, refused.json()["code"]) == (409, "price_changed")
    assert refused.json()["changes"][0]["now"]["amount"] == 1100
    await shop.fetch("UPDATE variants SET on_hand = 1 WHERE id = $1", scarcer)
    cart = (await guest.get("/api/cart")).json()
    assert {change["variant_id"] for change in cart["changes"]} == {str(dearer), str(scarcer)}
    assert {item["variant_id"]: item["available"] for item in cart["items"]} == {str(dearer): 10, str(scarcer): 1}
    refused = await shop_orders.checkout(guest)
    assert (refused.status_code, refused.json()["code"]) == (409, "out_of_stock")
    short = next(item for item in cart["items"] if item["variant_id"] == str(scarcer))
    await guest.patch(f"/api/cart/items/{short['id']}", json={"quantity": 1})
    assert (await shop_orders.checkout(guest)).status_code == 201


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": 7}, {"code": "x" * 101}, {"code": None}])
async def test_a_coupon_code_is_a_short_text(shop_orders: Orders, body: dict[str, Any]) -> None:
    """Anything else is 422 with its place."""
    answer = await shop_orders.guest().post("/api/cart/coupon", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/code")
