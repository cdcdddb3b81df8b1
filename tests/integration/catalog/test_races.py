"""Races made to happen: whoever comes first, nothing is promised twice and nobody waits for ever."""

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from reliability import deadline
from reliability.errors import DeadlineExceeded
from reliability.postgres import Connection
from services.catalog.products.domain import Price
from services.catalog.stock import repository
from services.catalog.stock.domain import HoldKey, Line
from services.catalog.stock.errors import HoldCommitted, HoldLost, HoldReleased, OutOfStock, PriceChanged
from tests.integration.catalog.support import TTL, Shop, new_key

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def _until_waiting(shop: Shop, number: int) -> None:
    """Until so many statements wait for a lock in this database."""
    async with asyncio.timeout(5), shop.database.connection() as connection:
        while await connection.fetchval(_WAITING) < number:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _row_locked(
    shop: Shop, variant: UUID, statement: str = "SELECT FROM variants WHERE id = $1 FOR UPDATE"
) -> AsyncIterator[None]:
    """Another transaction, in another task, has the variant's row locked while the block runs, by this `statement`."""

    async def block() -> None:
        async with shop.database.transaction("blocker") as connection:
            await connection.execute(statement, variant)
            locked.set()
            await free.wait()

    locked, free = asyncio.Event(), asyncio.Event()
    blocker = asyncio.create_task(block())
    await locked.wait()
    try:
        yield
    finally:
        free.set()
        await blocker


async def _blocked_behind(shop: Shop, variant: UUID, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Runs `calls`, in this order, up to the lock of a variant's row that another transaction holds, then lets go."""
    tasks = []
    async with _row_locked(shop, variant):
        for number, call in enumerate(calls, start=1):
            tasks.append(asyncio.create_task(call))
            await _until_waiting(shop, number)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_64_buyers_for_10_pieces(shop: Shop) -> None:
    """Exactly ten get one, the others are told, and the books balance over the whole table."""
    variant = await shop.variant(10)
    keys = [new_key() for _ in range(64)]
    results = await asyncio.gather(
        *(shop.stock.hold(key, [Line(variant, 1)], TTL) for key in keys), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(results) - len(refused) == 10
    assert {type(error) for error in refused} == {OutOfStock}
    assert await shop.counts(variant) == (10, 10)
    await shop.assert_books_balance()


async def test_twenty_times_the_same_hold_at_once(shop: Shop) -> None:
    """Retries that overlap hold once and get one answer."""
    variant = await shop.variant(10)
    key = new_key()
    ends = await asyncio.gather(*(shop.stock.hold(key, [Line(variant, 2)], TTL) for _ in range(20)))
    assert len(set(ends)) == 1
    assert await shop.counts(variant) == (10, 2)
    await shop.assert_books_balance()


async def test_lines_in_opposite_order_do_not_deadlock(shop: Shop) -> None:
    """Carts list the same variants in every order; locks are taken in SKU order, so all get through."""
    variants = [await shop.variant(1000, sku=f"SKU-{number}") for number in range(3)]
    orders = list(itertools.permutations(variants)) * 8
    keys = [new_key() for _ in orders]
    await asyncio.gather(
        *(
            shop.stock.hold(key, [Line(variant, 1) for variant in order], TTL)
            for key, order in zip(keys, orders, strict=True)
        )
    )
    await asyncio.gather(
        *(shop.stock.commit(key, None) if number % 2 else shop.stock.release(key) for number, key in enumerate(keys)),
        *(shop.stock.hold(new_key(), [Line(variant, 1) for variant in reversed(order)], TTL) for order in orders),
    )
    assert [await shop.counts(variant) for variant in variants] == [(976, 48)] * 3
    await shop.assert_books_balance()


async def test_a_release_that_overtakes_a_hold_in_flight(shop: Shop) -> None:
    """The hold waits for its row, the release for the hold: then the hold is given back whole."""
    variant = await shop.variant(10)
    key = new_key()
    held, released = await _blocked_behind(
        shop, variant, shop.stock.hold(key, [Line(variant, 4)], TTL), shop.stock.release(key)
    )
    assert not isinstance(held, BaseException)
    assert released is None
    assert await shop.state(key) == "released"
    assert await shop.counts(variant) == (10, 0)


async def test_two_transactions_of_one_hold_see_each_other(shop: Shop) -> None:
    """The second of two overlapping holds waits, and then finds the first one's lines."""
    variant = await shop.variant(10)
    key = new_key()
    first, second = await _blocked_behind(
        shop,
        variant,
        shop.stock.hold(key, [Line(variant, 4)], TTL),
        shop.stock.hold(key, [Line(variant, 4)], TTL),
    )
    assert first == second
    assert await shop.counts(variant) == (10, 4)


async def test_the_last_piece_goes_to_the_first_in_line(shop: Shop) -> None:
    """Whoever waits behind the last piece reads the count anew once the lock is free."""
    variant = await shop.variant(1)
    first, second = await _blocked_behind(
        shop,
        variant,
        shop.stock.hold(new_key(), [Line(variant, 1)], TTL),
        shop.stock.hold(new_key(), [Line(variant, 1)], TTL),
    )
    assert not isinstance(first, BaseException)
    assert isinstance(second, OutOfStock)
    await shop.assert_books_balance()


async def test_a_price_that_moves_while_a_hold_waits(shop: Shop) -> None:
    """A hold looks at the price again once it has the row: nothing is held at the one that was left behind."""
    variant, other = await shop.variant(10, price=1000, sku="A"), await shop.variant(10, price=700, sku="B")
    key, lines = new_key(), [Line(variant, 1), Line(other, 2)]
    prices = {variant: Price(1000, "USD"), other: Price(700, "USD")}
    async with _row_locked(shop, variant, "UPDATE variants SET price = 1100 WHERE id = $1"):
        holding = asyncio.create_task(shop.stock.hold(key, lines, TTL, prices))
        await _until_waiting(shop, 1)
    (refused,) = await asyncio.gather(holding, return_exceptions=True)
    assert isinstance(refused, PriceChanged)
    assert await shop.state(key) is None
    assert [await shop.counts(each) for each in (variant, other)] == [(10, 0)] * 2
    await shop.stock.hold(key, lines, TTL, prices | {variant: Price(1100, "USD")})
    async with _row_locked(shop, variant, "UPDATE variants SET on_hand = 20 WHERE id = $1"):
        holding = asyncio.create_task(shop.stock.hold(new_key(), lines, TTL, {other: Price(700, "USD")}))
        await _until_waiting(shop, 1)
    await holding
    await shop.assert_books_balance()


Ending = Callable[[Shop, HoldKey], Coroutine[Any, Any, None]]


async def _release(shop: Shop, key: HoldKey) -> None:
    await shop.stock.release(key)


async def _commit(shop: Shop, key: HoldKey) -> None:
    await shop.stock.commit(key, None)


async def _expire(shop: Shop, key: HoldKey) -> None:
    del key
    await shop.stock.release_expired(timedelta())


@pytest.mark.parametrize(
    ("first", "second", "state", "counts", "error"),
    [
        (_release, _release, "released", (10, 0), None),
        (_commit, _commit, "committed", (7, 0), None),
        (_release, _commit, "released", (10, 0), HoldLost),
        (_commit, _release, "committed", (7, 0), HoldCommitted),
        (_commit, _expire, "committed", (7, 0), None),
        (_release, _expire, "released", (10, 0), None),
        (_expire, _release, "released", (10, 0), None),
        (_expire, _commit, "committed", (7, 0), None),
        (_expire, _expire, "expired", (10, 0), None),
    ],
)
async def test_two_endings_of_one_hold(
    shop: Shop, first: Ending, second: Ending, state: str, counts: tuple[int, int], error: type[Exception] | None
) -> None:
    """Two endings meet on one hold; the second sees what the first did, and stock moves once."""
    variant = await shop.variant(10)
    key = await shop.holding((variant, 3))
    await shop.age(key, TTL * 2)

    async with _row_locked(shop, variant):
        leader = asyncio.create_task(first(shop, key))
        await _until_waiting(shop, 1)
        follower = asyncio.create_task(second(shop, key))
        if second is _expire:
            await follower  # passes by a hold that is in use
        else:
            await _until_waiting(shop, 2)
    outcome, other = await asyncio.gather(leader, follower, return_exceptions=True)
    assert outcome is None
    assert other is None if error is None else isinstance(other, error)
    assert (await shop.state(key), await shop.counts(variant)) == (state, counts)
    await shop.assert_books_balance()


async def test_the_same_orders_from_all_sides(shop: Shop) -> None:
    """Holds, releases, commits and the sweep at once on few variants: every order ends one way, the books balance."""
    variants = [await shop.variant(20, sku=f"MIX-{number}") for number in range(4)]
    keys = [new_key() for _ in range(24)]

    async def one(number: int, key: HoldKey) -> None:
        lines = [Line(variants[(number + step) % 4], 1 + step) for step in range(3)]
        calls: list[Awaitable[Any]] = [
            shop.stock.hold(key, lines, TTL),
            shop.stock.hold(key, lines[::-1], TTL),
            shop.stock.commit(key, None) if number % 3 else shop.stock.release(key),
            shop.stock.release(key) if number % 2 else shop.stock.commit(key, None),
            shop.stock.release_expired(timedelta(days=-1)),
        ]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            foreseen = (OutOfStock, HoldReleased, HoldCommitted, HoldLost)
            assert not isinstance(result, BaseException) or isinstance(result, foreseen), result

    await asyncio.gather(*(one(number, key) for number, key in enumerate(keys)))
    await shop.assert_books_balance()
    on_hand = sum([(await shop.counts(variant))[0] for variant in variants])
    sold = (await shop.fetch("SELECT coalesce(sum(quantity), 0)::bigint AS pieces FROM sales"))[0]["pieces"]
    assert on_hand + sold == 80


async def test_out_of_time_behind_a_lock_leaves_nothing(shop: Shop) -> None:
    """The caller's deadline ends the wait for a lock, and with it the whole hold."""
    variant = await shop.variant(10)
    key = new_key()

    async def impatient() -> None:
        with deadline.deadline_scope(0.3):
            await shop.stock.hold(key, [Line(variant, 1)], TTL)

    async with _row_locked(shop, variant):
        with pytest.raises(DeadlineExceeded):
            await impatient()
    assert await shop.state(key) is None
    assert await shop.counts(variant) == (10, 0)
    await shop.stock.hold(key, [Line(variant, 1)], TTL)


async def test_stock_that_comes_back_while_we_look_why(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, and then the shelf is full again: it is not told that it is empty."""
    variant = await shop.variant(1)
    first, second = new_key(), new_key()
    await shop.stock.hold(first, [Line(variant, 1)], TTL)
    look = repository.stock

    async def given_back(connection: Connection, variant_ids: Any) -> Any:
        await asyncio.create_task(released(), context=contextvars.Context())
        return await look(connection, variant_ids)

    async def released() -> None:
        await shop.stock.release(first)

    monkeypatch.setattr(repository, "stock", given_back)
    await shop.stock.hold(second, [Line(variant, 1)], TTL)
    assert (await shop.state(first), await shop.state(second)) == ("released", "held")
    await shop.assert_books_balance()
