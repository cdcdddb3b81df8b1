"""What an answer says about the limits."""

from dataclasses import replace

import pytest

from libs.reliability.tests.rate_limit.support import GCRA, HOUR, PACED, Clock, parsed, without_redis
from reliability.errors import RateLimited
from reliability.rate_limit import LOGIN, Policy, RateLimiter
from reliability.redis import Cache


async def test_the_fields_say_what_is_allowed_left_and_when_there_is_more(cache: Cache) -> None:
    """RateLimit-Policy is the same with every answer; RateLimit counts down, and is on refusals too."""
    limiter, limits = RateLimiter(cache), [(LOGIN, "me"), (Policy("paced", 6, HOUR, GCRA, burst=2), "me")]
    seen = [await limiter.check(limits) for _ in range(2)]
    with pytest.raises(RateLimited) as refused:
        await limiter.check(limits)
    seen.append(refused.value.headers)
    assert {told["RateLimit-Policy"] for told in seen} == {'"login";q=5;w=900, "paced";q=6;w=3600'}
    for told, (login, paced) in zip(seen, [(4, 1), (3, 0), (2, 0)], strict=True):
        (_, at_login), (_, at_paced) = parsed(told["RateLimit"])
        assert (at_login["r"], at_paced["r"]) == (login, paced)
        assert at_login["t"] in {899, 900}
        assert at_paced["t"] in {599, 600}
    assert refused.value.retry_after in {599, 600}


async def test_a_paced_limit_nobody_has_used_up_has_nothing_to_wait_for(away: Cache) -> None:
    """Full again: `t` is 0, and all of it is left."""
    clock = Clock()
    limiter = without_redis(away, clock)
    await limiter.check([(PACED, "me")], cost=6)
    clock.now += HOUR
    told = await limiter.check([(replace(PACED, quota=0, name="off", shadow=True), "me"), (PACED, "me")])
    assert told == {"RateLimit-Policy": '"paced";q=6;w=3600', "RateLimit": '"paced";r=5;t=600'}
