"""Taking stock for good: once per order, also after the hold ended."""

from uuid import UUID

import pytest

from reliability.context import correlation_scope
from reliability.ids import new_id
from services.catalog.stock.domain import HoldKey, Line
from services.catalog.stock.errors import HoldLost, OrderCommitted
from tests.integration.catalog.support import TTL, Shop, new_key


async def test_commit_takes_the_stock_once(shop: Shop) -> None:
    """The job that commits may run twice; the warehouse is counted down once and one sale is noted."""
    one, two = await shop.variant(), await shop.variant()
    key = await shop.holding((one, 3), (two, 1))
    customer = UUID(new_id())
    with correlation_scope("flow-1"):
        await shop.stock.commit(key, customer)
    await shop.stock.commit(key, customer)
    assert await shop.counts(one) == (7, 0)
    assert await shop.counts(two) == (9, 0)
    sales = await shop.fetch("SELECT * FROM sales WHERE order_id = $1 ORDER BY quantity", key.order_id)
    assert [(sale["variant_id"], sale["quantity"]) for sale in sales] == [(two, 1), (one, 3)]
    assert {(sale["customer_id"], sale["correlation_id"]) for sale in sales} == {(customer, "flow-1")}
    await shop.assert_books_balance()


async def test_a_guest_buys_too(shop: Shop) -> None:
    """Without an account a sale has no customer."""
    key = await shop.holding((await shop.variant(), 1))
    await shop.stock.commit(key, None)
    assert [row["customer_id"] for row in await shop.fetch("SELECT customer_id FROM sales")] == [None]


async def test_commit_after_the_end_holds_anew(shop: Shop) -> None:
    """The customer paid although the hold had ended: while the stock is there, it is theirs."""
    variant = await shop.variant(3)
    key = await shop.holding((variant, 3))
    await shop.expire(key)
    await shop.stock.commit(key, None)
    assert await shop.counts(variant) == (0, 0)
    assert await shop.state(key) == "committed"
    await shop.assert_books_balance()


async def test_commit_after_the_end_does_not_take_what_others_hold(shop: Shop) -> None:
    """The stock went to somebody else: the hold is lost, with the line that is missing, and nothing moved."""
    plenty, scarce = await shop.variant(), await shop.variant(3, sku="SCARCE")
    key = await shop.holding((plenty, 1), (scarce, 2))
    await shop.expire(key)
    await shop.holding((scarce, 2))
    with pytest.raises(HoldLost) as caught:
        await shop.stock.commit(key, None)
    assert caught.value.extensions["changes"] == [
        {"variant_id": str(scarce), "sku": "SCARCE", "requested": 2, "available": 1}
    ]
    assert await shop.counts(plenty) == (10, 0)
    assert await shop.state(key) == "released"
    await shop.assert_books_balance()


async def test_a_hold_that_never_was_is_lost(shop: Shop) -> None:
    """Nobody knows its lines, so there is nothing to hold anew: with a tombstone or without."""
    key = new_key()
    with pytest.raises(HoldLost):
        await shop.stock.commit(key, None)
    assert await shop.state(key) == "released"
    await shop.stock.release(key)
    with pytest.raises(HoldLost):
        await shop.stock.commit(key, None)
    assert await shop.state(key) == "released"


async def test_an_order_takes_stock_by_one_attempt_only(shop: Shop) -> None:
    """Two holds of one order, both asked to be committed: the second is refused and stays held."""
    variant = await shop.variant()
    first = await shop.holding((variant, 1))
    second = HoldKey(first.order_id, 2)
    await shop.stock.hold(second, [Line(variant, 2)], TTL)
    await shop.stock.commit(first, None)
    with pytest.raises(OrderCommitted):
        await shop.stock.commit(second, None)
    assert await shop.counts(variant) == (9, 2)
    await shop.stock.release(second)
    await shop.assert_books_balance()
