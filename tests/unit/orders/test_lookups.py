"""Lookups: who comes while a call is on its way shares the next one; no answer is older than its question."""

import asyncio
from collections.abc import Iterable

import pytest

from reliability.errors import Unavailable
from services.orders.lookups import Lookups


class Catalog:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], asyncio.Future[None]]] = []
        self.called = asyncio.Event()
        self.fails = False

    async def ask(self, ids: Iterable[str]) -> dict[str, str]:
        """What is known starts with an "a"."""
        asked, answered = sorted(ids), asyncio.get_running_loop().create_future()
        self.calls.append((asked, answered))
        self.called.set()
        await answered
        if self.fails and len(asked) > 1:
            raise Unavailable
        return {each: each.upper() for each in asked if each.startswith("a")}

    async def answer(self, calls: int) -> None:
        """Answers the call of this number, once it has come."""
        while len(self.calls) < calls:
            self.called.clear()
            await self.called.wait()
        self.calls[calls - 1][1].set_result(None)


async def _three(catalog: Catalog, lookups: Lookups[str]) -> list[asyncio.Task[dict[str, str]]]:
    """One call on its way, and two questions behind it."""
    tasks = [asyncio.create_task(lookups([name])) for name in ("a1", "a2", "b")]
    while len(catalog.calls) < 1:
        catalog.called.clear()
        await catalog.called.wait()
    return tasks


async def test_questions_behind_a_call_share_the_next_one() -> None:
    """Each is told of its own, and of what does not exist nothing."""
    catalog = Catalog()
    tasks = await _three(catalog, Lookups(catalog.ask, most=100))
    await catalog.answer(1)
    await catalog.answer(2)
    assert await asyncio.gather(*tasks) == [{"a1": "A1"}, {"a2": "A2"}, {}]
    assert [asked for asked, _ in catalog.calls] == [["a1"], ["a2", "b"]]


async def test_a_hung_call_holds_nobody_up() -> None:
    """The next one goes out although the first was never answered."""
    catalog = Catalog()
    first, *others = await _three(catalog, Lookups(catalog.ask, most=100))
    await catalog.answer(2)
    assert await asyncio.gather(*others) == [{"a2": "A2"}, {}]
    assert not first.done()
    await catalog.answer(1)
    assert await first == {"a1": "A1"}


async def test_a_shared_call_that_fails_is_made_by_each() -> None:
    """Nobody fails because of somebody else's question."""
    catalog = Catalog()
    catalog.fails = True
    tasks = await _three(catalog, Lookups(catalog.ask, most=100))
    for number in (1, 2, 3, 4):
        await catalog.answer(number)
    assert await asyncio.gather(*tasks) == [{"a1": "A1"}, {"a2": "A2"}, {}]


async def test_a_call_has_no_more_ids_than_the_other_side_takes() -> None:
    """What would be too much goes by itself, and at once."""
    catalog = Catalog()
    tasks = await _three(catalog, Lookups(catalog.ask, most=1))
    for number in (1, 2, 3):
        await catalog.answer(number)
    assert await asyncio.gather(*tasks) == [{"a1": "A1"}, {"a2": "A2"}, {}]
    assert all(len(asked) == 1 for asked, _ in catalog.calls)


async def test_who_gives_up_takes_nobody_along() -> None:
    """A question that is not waited for any more leaves the shared call to the others."""
    catalog = Catalog()
    first, second, third = await _three(catalog, Lookups(catalog.ask, most=100))
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await catalog.answer(1)
    await catalog.answer(2)
    assert (await first, await third) == ({"a1": "A1"}, {})
