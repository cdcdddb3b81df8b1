"""What was looked up lately is taken at a checkout, and the hold says whether it still is so."""

from typing import Any

import pytest

from reliability.errors import Unavailable
from services.orders.catalog import Catalog
from services.orders.payments import Payments
from tests.integration.orders.support import Orders, key, unknown

MOVE = "UPDATE variants SET price = 1100 WHERE id = $1"
SELL_OUT = "UPDATE variants SET on_hand = 1 WHERE id = $1"


async def test_what_was_shown_a_moment_ago_is_not_asked_for_again(shop_orders: Orders, monkeypatch: Any) -> None:
    """One question for the cart, none for the checkout."""
    guest, variant = shop_orders.guest(), await shop_orders.shop.variant(5, price=1000)
    await shop_orders.add(guest, variant)

    async def asked(_self: Catalog, _variant_ids: Any) -> Any:
        raise Unavailable

    monkeypatch.setattr(Catalog, "entries", asked)
    assert (await shop_orders.checkout(guest)).status_code == 201
    assert await shop_orders.shop.counts(variant) == (5, 1)


@pytest.mark.parametrize("lately", [True, False])
@pytest.mark.parametrize(
    ("change", "code", "details"),
    [
        (
            MOVE,
            "price_changed",
            {"was": {"amount": 1000, "currency": "USD"}, "now": {"amount": 1100, "currency": "USD"}},
        ),
        (SELL_OUT, "out_of_stock", {"requested": 2, "available": 1}),
    ],
    ids=["price", "stock"],
)
async def test_what_has_changed_is_refused_whoever_finds_it_out(
    shop_orders: Orders, monkeypatch: Any, lately: bool, change: str, code: str, details: dict[str, Any]
) -> None:
    """The same answer from the hold and from the lookup; nothing is held, nobody can pay, and the key is free again."""
    guest, variant, clicked = shop_orders.guest(), await shop_orders.shop.variant(5, price=1000), key()
    await shop_orders.add(guest, variant, 2)
    await shop_orders.shop.fetch(change, variant)
    with monkeypatch.context() as patch:
        if not lately:
            patch.setattr(Catalog, "lately", unknown)
        refused = await shop_orders.checkout(guest, headers=clicked)
    assert (refused.status_code, refused.json()["code"]) == (409, code)
    (told,) = refused.json()["changes"]
    assert (told["variant_id"], told.items() >= details.items(), bool(told["title"])) == (str(variant), True, True)
    await shop_orders.work()
    written = "SELECT coalesce(array_agg(status), '{}') FROM orders"
    assert await shop_orders.value(written) == (["cancelled"] if lately else [])
    assert (await shop_orders.shop.counts(variant))[1] == 0
    assert (await shop_orders.sandbox.get("/_sandbox/ledger"))["orders"] == {}
    # What the hold found out is known: the next click is refused before an order is written.
    assert (await shop_orders.checkout(guest, headers=clicked)).json()["code"] == code
    assert await shop_orders.value(written) == (["cancelled"] if lately else [])
    item = (await guest.get("/api/cart")).json()["items"][0]
    await guest.patch(f"/api/cart/items/{item['id']}", json={"quantity": 1})
    accepted = await shop_orders.checkout(guest, headers=clicked)
    assert accepted.status_code == 201, accepted.text
    assert accepted.json()["subtotal"]["amount"] == item["unit_price"]["amount"]


async def test_an_order_that_holds_its_stock_keeps_its_price(shop_orders: Orders, monkeypatch: Any) -> None:
    """The price moves while the click is being answered, and the answer is lost: asked again, it is the same."""
    guest, variant, clicked = shop_orders.guest(), await shop_orders.shop.variant(5, price=1000), key()
    await shop_orders.add(guest, variant)

    async def away(*_: Any) -> Any:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(Payments, "create_intent", away)
        assert (await shop_orders.checkout(guest, headers=clicked)).status_code == 503
    await shop_orders.shop.fetch(MOVE, variant)
    answer = await shop_orders.checkout(guest, headers=clicked)
    assert (answer.status_code, answer.json()["subtotal"]["amount"]) == (201, 1000)
    assert await shop_orders.shop.counts(variant) == (5, 1)
