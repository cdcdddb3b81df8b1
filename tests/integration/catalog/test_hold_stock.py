"""Promising stock: all or nothing, once per name, and never again after a release."""

from datetime import timedelta
from uuid import UUID

import pytest

from reliability.ids import new_id
from services.catalog.products.domain import Price
from services.catalog.stock.domain import Line
from services.catalog.stock.errors import (
    HoldCommitted,
    HoldMismatch,
    HoldReleased,
    OutOfStock,
    PriceChanged,
    UnknownHold,
    UnknownVariant,
)
from tests.integration.catalog.support import TTL, Shop, new_key


async def test_a_hold_promises_every_line(shop: Shop) -> None:
    """Held pieces are no longer available, and still on hand."""
    one, two = await shop.variant(10), await shop.variant(5)
    await shop.holding((one, 3), (two, 5))
    assert await shop.counts(one) == (10, 3)
    assert await shop.counts(two) == (5, 5)
    await shop.assert_books_balance()


async def test_one_short_line_holds_nothing(shop: Shop) -> None:
    """All lines or none; the answer names the short line, and the name of the hold stays free."""
    plenty, scarce = await shop.variant(10), await shop.variant(1, sku="SCARCE")
    key = new_key()
    with pytest.raises(OutOfStock) as caught:
        await shop.stock.hold(key, [Line(plenty, 2), Line(scarce, 2)], TTL)
    assert caught.value.extensions["changes"] == [
        {"variant_id": str(scarce), "sku": "SCARCE", "requested": 2, "available": 1}
    ]
    assert await shop.counts(plenty) == (10, 0)
    assert await shop.state(key) is None
    await shop.stock.hold(key, [Line(plenty, 2), Line(scarce, 1)], TTL)
    await shop.assert_books_balance()


async def test_another_price_holds_nothing(shop: Shop) -> None:
    """The answer says what it was and is, and the name stays free; a hold that stands stays what it was."""
    one, two = await shop.variant(10, sku="ONE", price=500), await shop.variant(10, sku="TWO", price=700)
    key, lines = new_key(), [Line(one, 1), Line(two, 2)]
    prices = {one: Price(500, "USD"), two: Price(700, "USD")}
    await shop.fetch("UPDATE variants SET price = 800 WHERE id = $1", two)
    with pytest.raises(PriceChanged) as caught:
        await shop.stock.hold(key, lines, TTL, prices)
    assert caught.value.extensions["changes"] == [
        {
            "variant_id": str(two),
            "sku": "TWO",
            "was": {"amount": 700, "currency": "USD"},
            "now": {"amount": 800, "currency": "USD"},
        }
    ]
    assert (await shop.counts(one), await shop.counts(two), await shop.state(key)) == ((10, 0), (10, 0), None)
    until = await shop.stock.hold(key, lines, TTL, prices | {two: Price(800, "USD")})
    await shop.fetch("UPDATE variants SET price = 900 WHERE id = $1", two)
    assert await shop.stock.hold(key, lines, TTL, prices) == until
    await shop.assert_books_balance()


async def test_another_currency_is_another_price(shop: Shop) -> None:
    """The same number of something else."""
    variant = await shop.variant(price=500)
    with pytest.raises(PriceChanged):
        await shop.stock.hold(new_key(), [Line(variant, 1)], TTL, {variant: Price(500, "EUR")})
    await shop.holding((variant, 1))


async def test_an_unknown_variant_holds_nothing(shop: Shop) -> None:
    """The answer names the id and the place of the line."""
    known, unknown = await shop.variant(), UUID(new_id())
    key = new_key()
    with pytest.raises(UnknownVariant) as caught:
        await shop.stock.hold(key, [Line(known, 1), Line(unknown, 1)], TTL)
    assert caught.value.extensions["variant_ids"] == [str(unknown)]
    assert caught.value.extensions["errors"][0]["pointer"] == "/lines/1/variant_id"
    assert await shop.counts(known) == (10, 0)
    assert await shop.state(key) is None


async def test_asking_twice_holds_once(shop: Shop) -> None:
    """A lost reply is answered again, in whatever order the lines come and whatever the new ttl."""
    one, two = await shop.variant(), await shop.variant()
    key = new_key()
    first = await shop.stock.hold(key, [Line(one, 1), Line(two, 2)], TTL)
    again = await shop.stock.hold(key, [Line(two, 2), Line(one, 1)], TTL * 2)
    assert first == again
    assert await shop.counts(one) == (10, 1)
    assert await shop.counts(two) == (10, 2)
    await shop.assert_books_balance()


@pytest.mark.parametrize("change", ["quantity", "fewer", "more"])
async def test_other_lines_under_the_same_name_conflict(shop: Shop, change: str) -> None:
    """A name stands for one set of lines; another attempt takes another set."""
    one, two, three = [await shop.variant() for _ in range(3)]
    key = await shop.holding((one, 1), (two, 2))
    other = {
        "quantity": [Line(one, 1), Line(two, 3)],
        "fewer": [Line(one, 1)],
        "more": [Line(one, 1), Line(two, 2), Line(three, 1)],
    }[change]
    with pytest.raises(HoldMismatch):
        await shop.stock.hold(key, other, TTL)
    await shop.assert_books_balance()


async def test_release_gives_back_once(shop: Shop) -> None:
    """The second release finds nothing left to give back."""
    variant = await shop.variant()
    kept = await shop.holding((variant, 2))
    key = await shop.holding((variant, 3))
    await shop.stock.release(key)
    await shop.stock.release(key)
    assert await shop.counts(variant) == (10, 2)
    assert await shop.state(kept) == "held"
    await shop.assert_books_balance()


async def test_a_late_hold_after_its_release_is_refused(shop: Shop) -> None:
    """The release overtook the hold on the wire: its tombstone keeps the stock on the shelf."""
    variant = await shop.variant()
    key = new_key()
    await shop.stock.release(key)
    with pytest.raises(HoldReleased):
        await shop.stock.hold(key, [Line(variant, 1)], TTL)
    assert await shop.counts(variant) == (10, 0)
    await shop.stock.hold(new_key(attempt=2), [Line(variant, 1)], TTL)


async def test_a_repeated_hold_after_its_release_is_refused(shop: Shop) -> None:
    """A retry of the first call must not take back what was released meanwhile."""
    variant = await shop.variant()
    key = await shop.holding((variant, 1))
    await shop.stock.release(key)
    with pytest.raises(HoldReleased):
        await shop.stock.hold(key, [Line(variant, 1)], TTL)
    assert await shop.counts(variant) == (10, 0)


async def test_sold_stock_is_not_released(shop: Shop) -> None:
    """What left the warehouse does not come back by a late release."""
    variant = await shop.variant()
    key = await shop.holding((variant, 4))
    await shop.stock.commit(key, None)
    with pytest.raises(HoldCommitted):
        await shop.stock.release(key)
    assert await shop.counts(variant) == (6, 0)
    await shop.stock.hold(key, [Line(variant, 4)], TTL)  # a retry is told that the hold was made
    assert await shop.counts(variant) == (6, 0)
    await shop.assert_books_balance()


async def test_extending_moves_the_end_later_only(shop: Shop) -> None:
    """A short extension leaves a longer hold as it is."""
    variant = await shop.variant()
    key = new_key()
    first = await shop.stock.hold(key, [Line(variant, 1)], TTL)
    assert await shop.stock.extend(key, timedelta(minutes=1)) == first
    later = await shop.stock.extend(key, TTL * 4)
    assert timedelta(minutes=44) < later - first < timedelta(minutes=46)
    assert await shop.stock.hold(key, [Line(variant, 1)], TTL) == later


async def test_only_live_holds_are_extended(shop: Shop) -> None:
    """A hold that is over, or never was, has no end to move."""
    variant = await shop.variant()
    with pytest.raises(UnknownHold):
        await shop.stock.extend(new_key(), TTL)
    released = await shop.holding((variant, 1))
    await shop.stock.release(released)
    with pytest.raises(HoldReleased):
        await shop.stock.extend(released, TTL)
    sold = await shop.holding((variant, 1))
    await shop.stock.commit(sold, None)
    with pytest.raises(HoldCommitted):
        await shop.stock.extend(sold, TTL)
    assert await shop.state(released) == "released"
