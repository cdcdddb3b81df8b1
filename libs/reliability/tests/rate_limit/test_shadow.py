"""A limit in the shadow is counted and logged, and refuses nobody."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from libs.reliability.tests.rate_limit.support import PACED, Decisions, parsed, passed, tried
from reliability.rate_limit import LOGIN, Policy, RateLimiter
from reliability.redis import Cache


@pytest.mark.parametrize("policy", [replace(LOGIN, shadow=True), replace(PACED, name="login", quota=5, shadow=True)])
async def test_a_limit_in_the_shadow_counts_logs_and_lets_pass(
    cache: Cache, decisions: Decisions, policy: Policy
) -> None:
    """What it would have refused is on record, and clients hear nothing of it."""
    limiter = RateLimiter(cache)
    with capture_logs() as lines:
        told = [await limiter.check([(policy, "me")]) for _ in range(8)]
    assert told == [{}] * 8
    assert decisions.seen() == {"login allowed redis": 5, "login would_deny redis": 3}
    assert [(line["event"], line["policy"]) for line in lines] == [("rate_limit_would_deny", "login")] * 3


async def test_a_shadow_changes_nothing_for_the_limits_beside_it(cache: Cache) -> None:
    """They are charged although it would refuse, and refuse although it would not."""
    limiter, shadow = RateLimiter(cache), (Policy("shadow", 0, 60, shadow=True), "me")
    assert await passed(limiter, shadow, (PACED, "me"), times=10) == 6
    assert await tried(limiter, (PACED, "me")) is not None
    told = await limiter.check([shadow, (LOGIN, "me")])
    assert [name for name, _ in parsed(told["RateLimit"])] == ["login"]


async def test_a_limit_in_the_shadow_is_charged_as_if_it_were_not(cache: Cache) -> None:
    """What the others refuse costs it nothing, so that its record shows what would happen."""
    limiter, shadow = RateLimiter(cache), replace(PACED, name="shadow", shadow=True)
    await passed(limiter, (Policy("off", 0, 60), "me"), (shadow, "me"), times=10)
    assert await cache.client.get("gcra:shadow:me") is None
