"""The script, and what it makes good: a script forgotten, an end lost, an instant that cannot be."""

import pytest

from libs.reliability.tests.rate_limit.support import HOUR, PACED, Decisions, pass_time, passed, server_time, tried
from reliability.rate_limit import LOGIN, RateLimiter
from reliability.redis import Cache


async def test_a_server_that_forgot_the_script_is_sent_it(cache: Cache, decisions: Decisions) -> None:
    """After a restart or a failover, without counting twice and without the fallback."""
    limiter, limit = RateLimiter(cache), (LOGIN, "me")
    for _ in range(3):
        await cache.client.script_flush()
        await limiter.check([limit])
    assert await cache.client.get("rate:login:me") == b"3"
    assert decisions.seen() == {"login allowed redis": 3}


@pytest.mark.parametrize("ttl", [None, 24 * HOUR])
async def test_a_counter_without_its_end_gets_it_back(cache: Cache, ttl: int | None) -> None:
    """Without one, or with that of a window since made shorter, somebody would be locked out for ever, or for a day."""
    await cache.client.set("rate:login:me", 100, ex=ttl)
    assert (await tried(RateLimiter(cache), (LOGIN, "me")) or 0) <= 900
    assert 0 < await cache.client.ttl("rate:login:me") <= 900


async def test_an_instant_from_the_future_is_cut(cache: Cache) -> None:
    """The server's clock was set back by a day: nobody waits for it to catch up."""
    limiter, limit = RateLimiter(cache), (PACED, "me")
    await cache.client.set("gcra:paced:me", await server_time(cache) + 24 * HOUR * 1_000_000, ex=24 * HOUR)
    assert await tried(limiter, limit) == 600
    await pass_time(cache, 600)
    assert await passed(limiter, limit, times=5) == 1
    assert await cache.client.ttl("gcra:paced:me") <= HOUR


async def test_an_instant_that_lost_its_end_means_nothing_once_it_has_passed(cache: Cache) -> None:
    """The key gets an end with the next request that passes."""
    await cache.client.set("gcra:paced:me", 1)
    assert await passed(RateLimiter(cache), (PACED, "me"), times=10) == 6
    assert await cache.client.ttl("gcra:paced:me") > 0


async def test_what_is_no_instant_counts_as_none(cache: Cache, decisions: Decisions) -> None:
    """Whoever wrote it: the script goes on, and decides by itself."""
    await cache.client.set("gcra:paced:me", "rubbish")
    assert await passed(RateLimiter(cache), (PACED, "me"), times=10) == 6
    assert decisions.seen() == {"paced allowed redis": 6, "paced denied redis": 4}
