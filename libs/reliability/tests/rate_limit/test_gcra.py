"""GCRA: a burst, and then an even pace."""

from libs.reliability.tests.rate_limit.support import GCRA, HOUR, PACED, pass_time, passed, server_time, tried
from libs.reliability.tests.support import eventually
from reliability.rate_limit import Policy, RateLimiter
from reliability.redis import Cache


async def test_gcra_lets_a_burst_through_and_then_one_per_interval(cache: Cache) -> None:
    """Six at once, then one each ten minutes; the wait it names is enough, and not much more than enough."""
    limiter, limit = RateLimiter(cache), (PACED, "me")
    assert await passed(limiter, limit, times=20) == 6
    wait = await tried(limiter, limit)
    assert wait in {599, 600}
    await pass_time(cache, wait - 60)
    assert await tried(limiter, limit) is not None
    await pass_time(cache, 60)
    assert await passed(limiter, limit, times=5) == 1
    await pass_time(cache, HOUR)
    assert await passed(limiter, limit, times=20) == 6


async def test_an_interval_ends_by_the_servers_clock(cache: Cache) -> None:
    """The same for GCRA, whose state has no end but an instant."""
    limiter, limit = RateLimiter(cache), (Policy("short", 1, 1, GCRA), "me")
    assert await tried(limiter, limit) is None

    async def passes() -> bool:
        return await tried(limiter, limit) is None

    await eventually(passes)


async def test_gcra_is_not_moved_by_what_it_refuses(cache: Cache) -> None:
    """The instant stays to the microsecond, and has as many digits."""
    limiter, limit = RateLimiter(cache), (PACED, "me")
    before = await server_time(cache)
    assert await tried(limiter, limit) is None
    after = await server_time(cache)
    arrival = await cache.client.get("gcra:paced:me")
    assert before <= int(arrival or 0) - 600_000_000 <= after
    await passed(limiter, limit, times=5)
    arrival = await cache.client.get("gcra:paced:me")
    assert await passed(limiter, limit, times=20) == 0
    assert await cache.client.get("gcra:paced:me") == arrival


async def test_microseconds_are_not_rounded(cache: Cache) -> None:
    """Written as Lua writes numbers by itself, the last digits would be zeros."""
    limiter = RateLimiter(cache)
    for n in range(20):
        await limiter.check([(PACED, str(n))])
    endings = {(await cache.client.get(f"gcra:paced:{n}") or b"")[-2:] for n in range(20)}
    assert len(endings) > 1
    assert all(ending.isdigit() for ending in endings)


async def test_a_burst_may_be_larger_than_the_quota(cache: Cache) -> None:
    """Ten at once, then two an hour."""
    limiter, limit = RateLimiter(cache), (Policy("bursty", 2, HOUR, GCRA, burst=10), "me")
    assert await passed(limiter, limit, times=30) == 10
    await pass_time(cache, HOUR)
    assert await passed(limiter, limit, times=30) == 2


async def test_a_weighted_request_waits_until_all_its_units_are_back(cache: Cache) -> None:
    """Four of six are spent: three need ten minutes more, and cost nothing before that."""
    limiter, limit = RateLimiter(cache), (PACED, "me")
    assert await tried(limiter, limit, cost=4) is None
    assert await tried(limiter, limit, cost=3) in {599, 600}
    assert await tried(limiter, limit, cost=2) is None


async def test_gcra_state_ends_when_it_says_nothing_more(cache: Cache) -> None:
    """An idle subject costs no memory once everything has come back."""
    await RateLimiter(cache).check([(PACED, "me")], cost=3)
    assert 1790 * 1000 < await cache.client.pttl("gcra:paced:me") <= 1800 * 1000
