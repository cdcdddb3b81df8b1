"""Fixed windows: who asks is counted, and the end of a window stays where it is."""

from libs.reliability.tests.rate_limit.support import pass_time, passed, tried
from libs.reliability.tests.support import eventually
from reliability.rate_limit import LOGIN, Policy, RateLimiter
from reliability.redis import Cache


async def test_a_fixed_window_counts_refused_requests_and_its_end_stays(cache: Cache) -> None:
    """Whoever goes on asking gains nothing and loses nothing."""
    limiter, limit = RateLimiter(cache), (LOGIN, "me")
    assert await passed(limiter, limit, times=20) == 5
    assert await cache.client.get("rate:login:me") == b"20"
    await pass_time(cache, 600)
    assert await tried(limiter, limit) in {299, 300}
    await pass_time(cache, 300)
    assert await passed(limiter, limit, times=20) == 5


async def test_a_window_ends_by_the_servers_clock(cache: Cache) -> None:
    """A real second, waited for."""
    limiter, limit = RateLimiter(cache), (Policy("short", 1, 1), "me")
    assert await tried(limiter, limit) is None

    async def passes() -> bool:
        return await tried(limiter, limit) is None

    await eventually(passes)


async def test_a_weighted_request_takes_as_many_units(cache: Cache) -> None:
    """And one too heavy for what is left is refused, and counted."""
    limiter, limit = RateLimiter(cache), (Policy("bytes", 10, 60), "me")
    assert await tried(limiter, limit, cost=7) is None
    assert await tried(limiter, limit, cost=4) is not None
    assert await cache.client.get("rate:bytes:me") == b"11"
