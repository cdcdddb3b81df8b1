"""Between processes: what one has learnt the others know, and Redis is not in the way."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import orjson
import pytest

from libs.reliability.tests.circuit_breaker.support import fail, refuses
from libs.reliability.tests.support import DistantCache, eventually
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Rules, State
from reliability.circuit_breaker.sharing import share
from reliability.redis import Cache
from reliability.testing import FakeClock

if TYPE_CHECKING:
    from conftest import Servers


@asynccontextmanager
async def sharing(
    *shares: tuple[Cache, Iterable[CircuitBreaker]], now: Callable[[], float] = time.monotonic
) -> AsyncIterator[None]:
    """Each pair is a process: its way to Redis and its breakers."""
    tasks = [asyncio.create_task(share(cache, each, every=0.02, now=now)) for cache, each in shares]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def becomes(breaker: CircuitBreaker, state: State) -> None:
    async def there() -> bool:
        return breaker.state is state

    await eventually(there)


def process(rules: Rules = Rules(open_seconds=30.0)) -> CircuitBreaker:  # noqa: B008
    return CircuitBreaker("stripe", rules)


async def _exists(cache: Cache, key: str) -> bool:
    return bool(await cache.client.exists(key))


async def _forced(cache: Cache) -> bool:
    return b"forced" in (await cache.client.get("breaker-hold:stripe") or b"")


async def _expires(cache: Cache, key: str) -> bool:
    return await cache.client.ttl(key) > 0


async def test_one_process_s_opening_is_the_others(cache: Cache) -> None:
    """They did not have to meet three failures of their own, and the first to try again is who told."""
    here, there, other = process(), process(), CircuitBreaker("mail")
    async with sharing((cache, [here]), (cache, [there, other])):
        fail(here, 3)
        await becomes(there, State.OPEN)
        assert refuses(there)
        assert there.reason == "elsewhere"
        assert there.open_for >= here.open_for - 0.5
        assert other.state is State.CLOSED
        assert 0 < await cache.client.pttl("breaker:stripe") <= 30_000


async def test_a_process_that_starts_hears_what_is_open(cache: Cache) -> None:
    """Also when the one that opened it is gone."""
    here, later = process(), process()
    async with sharing((cache, [here])):
        fail(here, 3)
        await eventually(lambda: _exists(cache, "breaker:stripe"))
    async with sharing((cache, [later])):
        await becomes(later, State.OPEN)


async def test_when_one_reaches_it_again_the_others_try(cache: Cache) -> None:
    """With a probe of their own: what one network reaches, another may not."""
    here, there = process(Rules(open_seconds=0.2, open_cap=0.2)), process()
    async with sharing((cache, [here]), (cache, [there])):
        fail(there, 3)
        await becomes(here, State.OPEN)

        async def tried() -> bool:
            with suppress(CircuitOpen):
                here.allow().success()
            return here.state is State.CLOSED

        await eventually(tried)

        async def due() -> bool:
            return there.state is State.OPEN and there.open_for == 0.0

        await eventually(due)
        there.allow().success()
        assert there.state is State.CLOSED


async def test_what_an_operator_holds_is_held_everywhere_until_reset(cache: Cache) -> None:
    """Also by a process that starts later, and for longer than any opening."""
    here, there, later = process(), process(), process()
    async with sharing((cache, [here]), (cache, [there])):
        here.force_open()
        await becomes(there, State.FORCED_OPEN)
        assert await cache.client.ttl("breaker-hold:stripe") == -1
        async with sharing((cache, [later])):
            await becomes(later, State.FORCED_OPEN)
            later.disable()
            await becomes(here, State.DISABLED)
            await becomes(there, State.DISABLED)
            there.reset()
            await becomes(here, State.CLOSED)
            await becomes(later, State.CLOSED)


async def test_a_hold_outlives_the_memory_of_redis(cache: Cache) -> None:
    """Who knows of it tells again: a process that starts after a restart of Redis holds it as well, and so ends it."""
    here, there = process(), process()
    async with sharing((cache, [here]), (cache, [there])):
        here.force_open()
        await becomes(there, State.FORCED_OPEN)
        await cache.client.flushall()
        later = process()
        async with sharing((cache, [later])):
            await becomes(later, State.FORCED_OPEN)
            later.reset()
            await becomes(here, State.CLOSED)
            await becomes(there, State.CLOSED)


async def test_an_old_reset_does_not_undo_what_a_new_process_has_seen(cache: Cache) -> None:
    """The record of a reset stays for a day."""
    here = process()
    async with sharing((cache, [here])):
        here.force_open()
        await eventually(lambda: _exists(cache, "breaker-hold:stripe"))
        here.reset()
        await eventually(lambda: _expires(cache, "breaker-hold:stripe"))
    new, witness = process(), CircuitBreaker("witness")
    fail(new, 3)
    async with sharing((cache, [new, witness]), (cache, [here])):
        await becomes(here, State.OPEN)  # so `new` has told, and then listened
        witness.force_open()
        await eventually(lambda: _exists(cache, "breaker-hold:witness"))
        assert new.state is State.OPEN


async def test_without_redis_each_goes_on_by_itself_and_tells_afterwards(distant_cache: DistantCache) -> None:
    """What holds by hand is told when Redis is back, an opening if it is still open."""
    here, there = process(), process()
    async with sharing((distant_cache.cache, [here]), (distant_cache.near, [there])):
        distant_cache.proxy.refuse()
        fail(here, 3)
        assert refuses(here)

        async def away() -> bool:
            return distant_cache.cache.breaker.state is State.OPEN

        await eventually(away)
        assert there.state is State.CLOSED
        distant_cache.proxy.forward()
        await becomes(there, State.OPEN)


async def test_what_was_done_by_hand_is_told_whatever_the_breaker_did_since(distant_cache: DistantCache) -> None:
    """A reset that Redis was away for, after which the breaker opened and closed by itself."""
    here, there = process(Rules(open_seconds=0.01, open_cap=0.01)), process()
    async with sharing((distant_cache.cache, [here]), (distant_cache.near, [there])):
        here.disable()
        await becomes(there, State.DISABLED)
        distant_cache.proxy.refuse()
        here.reset()
        fail(here, 3)
        await asyncio.sleep(here.open_for)
        here.allow().success()
        assert (here.state, there.state) == (State.CLOSED, State.DISABLED)
        distant_cache.proxy.forward()
        await becomes(there, State.CLOSED)


@pytest.mark.parametrize("last_is_cut_off", [True, False])
async def test_what_was_done_last_by_hand_wins(distant_cache: DistantCache, last_is_cut_off: bool) -> None:
    """Not what was told last: that may be what was done before, by a process that was cut off."""
    clock = FakeClock()
    here, there = process(), process()
    async with sharing((distant_cache.cache, [here]), (distant_cache.near, [there]), now=clock):
        here.disable()
        await becomes(there, State.DISABLED)
        distant_cache.proxy.refuse()
        if last_is_cut_off:
            there.reset()
            await eventually(lambda: _expires(distant_cache.near, "breaker-hold:stripe"))
            clock.advance(60)
            here.disable()
        else:
            here.reset()
            clock.advance(60)
            there.force_open()
            await eventually(lambda: _forced(distant_cache.near))
        distant_cache.proxy.forward()
        await becomes(here, State.DISABLED if last_is_cut_off else State.FORCED_OPEN)
        await becomes(there, here.state)


async def test_what_somebody_else_wrote_there_is_ignored(cache: Cache) -> None:
    """And does not end the sharing."""
    here, there = process(), process()
    await cache.client.set("breaker:stripe", b"\xff not ours", px=60_000)
    await cache.client.set("breaker-hold:stripe", orjson.dumps([1]))
    async with sharing((cache, [here]), (cache, [there])):
        fail(here, 3)
        await becomes(there, State.OPEN)


async def test_a_breaker_made_later_is_shared_too_and_a_local_one_never(servers: "Servers", cache: Cache) -> None:
    """Redis' own breaker above all: opening it must not be told to those who still reach Redis."""
    mine = Cache(servers.endpoints.redis)
    task = asyncio.create_task(share(mine, every=0.02))
    try:
        for name in ("made later", "made later still"):
            mine.breaker.force_open()
            mine.breaker.reset()
            made_later = CircuitBreaker(name)
            made_later.force_open()
            await eventually(partial(_exists, cache, f"breaker-hold:{name}"))
        assert not await _exists(cache, "breaker-hold:redis")
        with pytest.raises(ValueError, match="local"):
            await share(mine, [mine.breaker])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await mine.close()


async def test_an_opening_can_be_reset_everywhere(cache: Cache) -> None:
    """Also one that nobody had made by hand."""
    here, there = process(), process()
    async with sharing((cache, [here]), (cache, [there])):
        fail(here, 3)
        await becomes(there, State.OPEN)
        here.reset()
        await becomes(there, State.CLOSED)
        assert not await _exists(cache, "breaker:stripe")


async def test_an_open_breaker_costs_no_round_trip(distant_cache: DistantCache) -> None:
    """The way of a call does not lead through Redis."""
    here = process()
    async with sharing((distant_cache.cache, [here])):
        fail(here, 3)
        await eventually(lambda: _exists(distant_cache.near, "breaker:stripe"))
    before = distant_cache.proxy.count(b"breaker:stripe")
    assert all(refuses(here) for _ in range(1000))
    assert distant_cache.proxy.count(b"breaker:stripe") == before
