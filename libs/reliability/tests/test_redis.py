"""A Redis that fails or hangs costs a few calls their time, not all, and is used again soon after it is back."""

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop
from redis.exceptions import ResponseError

from libs.reliability.tests.support import DistantCache, eventually
from reliability import deadline
from reliability.circuit_breaker import State
from reliability.deadline import deadline_scope
from reliability.ids import new_id
from reliability.rate_limit import LOGIN, RateLimiter
from reliability.redis import BREAKER, CONNECTIONS, Cache, CacheUnavailable

if TYPE_CHECKING:
    from conftest import Servers


async def ping(cache: Cache) -> None:
    await cache.run("ping", lambda client: client.ping())


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty connections at once take a busy machine longer than a request may wait."""
    monkeypatch.setattr(deadline, "CACHE_CAP", 60.0)


async def break_it(distant: DistantCache) -> None:
    """Three calls that find nobody."""
    distant.proxy.refuse()
    for _ in range(3):
        with pytest.raises(CacheUnavailable):
            await ping(distant.cache)
    assert distant.cache.breaker.state is State.OPEN


async def test_a_hung_redis_costs_three_calls_their_timeout_and_the_others_nothing(
    distant_cache: DistantCache,
) -> None:
    """The fourth is refused without a byte sent."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    await ping(cache)
    proxy.hang()
    for _ in range(3):
        with pytest.raises(CacheUnavailable):
            await ping(cache)
    assert cache.breaker.state is State.OPEN
    proxy.forward()  # it would answer now, if it were asked
    before = proxy.count(b"SECRET")
    for _ in range(100):
        with pytest.raises(CacheUnavailable):
            await cache.run("get", lambda client: client.get("SECRET"))
    assert proxy.count(b"SECRET") == before
    assert cache.breaker.snapshot().refused == 100


async def test_redis_is_used_again_soon_after_it_is_back(distant_cache: DistantCache) -> None:
    """However long it was away; each opening is two seconds at most."""
    await break_it(distant_cache)
    cache = distant_cache.cache

    async def opened_often() -> bool:
        await cache.ready()
        return cache.breaker.openings >= 2

    await eventually(opened_often)
    assert cache.breaker.open_for <= BREAKER.open_cap
    distant_cache.proxy.forward()
    await eventually(cache.ready, seconds=BREAKER.open_cap + 2)
    assert cache.breaker.state is State.CLOSED
    await ping(cache)


async def test_readiness_is_the_probe_and_waits_for_nobody(distant_cache: DistantCache) -> None:
    """It says no at once while the breaker is open, and closes it when Redis is back."""
    await break_it(distant_cache)
    distant_cache.proxy.forward()
    refused = distant_cache.cache.breaker.snapshot().refused
    assert not await distant_cache.cache.ready()
    assert distant_cache.cache.breaker.snapshot().refused == refused + 1
    await eventually(distant_cache.cache.ready)
    assert distant_cache.cache.breaker.state is State.CLOSED


@pytest.mark.usefixtures("patience")
async def test_a_restart_that_cut_every_pooled_connection_costs_one_call(
    distant_cache: DistantCache, servers: "Servers"
) -> None:
    """The first that fails says what the other nineteen are worth."""
    proxy = distant_cache.proxy
    cache = Cache(proxy.through(servers.endpoints.redis), socket_timeout=10.0)
    await asyncio.gather(*(ping(cache) for _ in range(20)))
    proxy.cut()
    with pytest.raises(CacheUnavailable):
        await ping(cache)
    await asyncio.gather(*(ping(cache) for _ in range(20)))
    assert cache.breaker.snapshot().failures == 1
    await cache.close()


@pytest.mark.usefixtures("patience")
async def test_a_crowd_takes_turns_on_few_connections(cache: Cache) -> None:
    """Nobody is told that Redis is away because the others were quicker."""
    await asyncio.gather(*(ping(cache) for _ in range(300)))
    clients = await cache.client.client_list()
    assert 1 < len(clients) <= CONNECTIONS + 1  # and one of the fixture


async def test_an_error_that_redis_answers_is_an_answer(cache: Cache) -> None:
    """A wrong command is our mistake: it fails, and Redis stays in use."""
    await cache.client.set("text", "x")
    for _ in range(10):
        with pytest.raises(CacheUnavailable) as wrong:
            await cache.run("push", lambda client: client.lpush("text", "y"))
        assert isinstance(wrong.value.__cause__, ResponseError)
    assert cache.breaker.state is State.CLOSED


async def test_requests_that_are_out_of_time_say_nothing_about_redis(distant_cache: DistantCache) -> None:
    """Ten callers with no time left, or hardly any, do not take Redis away from those who have some."""
    cache = distant_cache.cache
    await ping(cache)
    for seconds in (0.0, 0.02):
        distant_cache.proxy.hang()
        for _ in range(5):
            with deadline_scope(seconds), pytest.raises(CacheUnavailable):
                await ping(cache)
        distant_cache.proxy.forward()
    assert cache.breaker.state is State.CLOSED
    await ping(cache)


async def test_cancelled_calls_say_nothing_about_redis(distant_cache: DistantCache) -> None:
    """Nor do they keep the permit of a probe."""
    cache = distant_cache.cache
    await ping(cache)
    distant_cache.proxy.hang()
    calls = [asyncio.create_task(ping(cache)) for _ in range(10)]
    await distant_cache.proxy.seen(b"PING", 1)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    distant_cache.proxy.forward()
    assert cache.breaker.state is State.CLOSED
    await ping(cache)


async def test_a_cancellation_is_never_lost(cache: Cache) -> None:
    """Whenever it comes. redis-py alone loses some before Python 3.12, and a task that should stop then goes on."""
    await ping(cache)
    for turns in range(15):
        call = asyncio.create_task(ping(cache))
        for _ in range(turns):
            await asyncio.sleep(0)
        if call.cancel():  # else it was done before
            with pytest.raises(asyncio.CancelledError):
                await call
    assert cache.breaker.state is State.CLOSED


async def test_a_mistake_in_our_own_code_passes_as_it_is(cache: Cache) -> None:
    """It is no failure of Redis, and not hidden as one."""

    async def mistake(_client: object) -> None:
        raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await cache.run("mistake", mistake)
    assert cache.breaker.state is State.CLOSED


async def test_every_failure_of_one_cache_is_its_own(distant_cache: DistantCache) -> None:
    """Two clients in one process, two breakers."""
    await break_it(distant_cache)
    await ping(distant_cache.near)
    assert distant_cache.near.breaker.state is State.CLOSED


def test_the_shared_connection_works_on_the_loop_that_services_run_on(servers: "Servers") -> None:
    """uvloop, whose transports are no subclass of asyncio's: a limit is counted there too."""

    async def count() -> dict[str, str]:
        cache = Cache(servers.endpoints.redis)
        try:
            return await RateLimiter(cache).check([(LOGIN, new_id())])
        finally:
            await cache.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(count())["RateLimit"].startswith('"login";r=4')
