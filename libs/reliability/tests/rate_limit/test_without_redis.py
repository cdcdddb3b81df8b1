"""Limits while Redis is away, silent, or heard of no more."""

from dataclasses import replace

import pytest

from libs.reliability.tests.rate_limit.support import NOWHERE, PACED, Clock, Decisions, passed, tried, without_redis
from libs.reliability.tests.support import DistantCache, eventually
from reliability.errors import RateLimited
from reliability.rate_limit import LOGIN, Algorithm, RateLimiter, WhenDown
from reliability.rate_limit.fallback import Fallback
from reliability.redis import Cache


@pytest.mark.parametrize("fault", ["refuse", "hang"])
@pytest.mark.parametrize(
    ("when_down", "passes", "counted"),
    [
        (WhenDown.SHARE, 2, {"login allowed share": 2, "login denied share": 2}),
        (WhenDown.DENY, 0, {"login denied deny": 4}),
        (WhenDown.ALLOW, 4, {"login allowed allow": 4}),
    ],
)
async def test_each_policy_says_what_holds_without_redis_and_it_is_counted(
    distant_cache: DistantCache,
    decisions: Decisions,
    fault: str,
    when_down: WhenDown,
    passes: int,
    counted: dict[str, int],
) -> None:
    """Away or silent; back in Redis as soon as it answers."""
    limiter, limit = RateLimiter(distant_cache.cache, processes=3), (replace(LOGIN, when_down=when_down), "me")
    getattr(distant_cache.proxy, fault)()
    assert await passed(limiter, limit, times=4) == passes
    assert decisions.seen() == counted
    distant_cache.proxy.forward()

    async def answers() -> bool:
        return await distant_cache.cache.ready()

    await eventually(answers)
    await passed(limiter, limit, times=1)
    assert sum(number for what, number in decisions.seen().items() if what.endswith(" redis")) == 1


async def test_a_denial_because_nobody_can_count_says_so(away: Cache) -> None:
    """A few seconds to wait, the policy, and no number that nobody knows."""
    with pytest.raises(RateLimited) as refused:
        await RateLimiter(away).check([(replace(LOGIN, when_down=WhenDown.DENY), "me")])
    assert refused.value.retry_after == 5
    assert "cannot be checked" in refused.value.detail
    assert refused.value.headers == {"RateLimit-Policy": '"login";q=5;w=900'}


async def test_policies_with_different_answers_are_decided_together(away: Cache) -> None:
    """One that denies is enough, and a paced one beside it is not charged."""
    limiter, allow = RateLimiter(away), replace(LOGIN, name="allow", when_down=WhenDown.ALLOW)
    deny = replace(LOGIN, name="deny", when_down=WhenDown.DENY)
    assert await passed(limiter, (allow, "me"), (PACED, "me"), (deny, "me"), times=10) == 0
    assert await passed(limiter, (allow, "me"), (PACED, "me"), times=10) == 6


@pytest.mark.parametrize(("processes", "share"), [(1, 5), (2, 3), (5, 1), (100, 1)])
@pytest.mark.parametrize("algorithm", Algorithm)
async def test_a_share_is_rounded_up_and_never_nothing(
    away: Cache, processes: int, share: int, algorithm: Algorithm
) -> None:
    """However many processes there are."""
    limiter = without_redis(away, Clock(), processes)
    assert await passed(limiter, (replace(LOGIN, algorithm=algorithm), "me"), times=10) == share


def test_a_quota_is_shared_by_somebody() -> None:
    """Zero processes cannot even ask."""
    with pytest.raises(ValueError, match="process"):
        RateLimiter(Cache(NOWHERE), processes=0)


async def test_made_up_subjects_do_not_fill_the_memory(away: Cache) -> None:
    """A hundred thousand of them: the latest are kept, the rest is forgotten."""
    clock = Clock()
    fallback = Fallback(1, clock)
    for n in range(100_000):
        fallback.decide([f"rate:login:{n}"], [LOGIN], 1)
    assert len(fallback._kept) <= 10_000
    (latest,) = fallback.decide(["rate:login:99999"], [LOGIN], 1)
    assert latest.remaining == 3


async def test_a_lost_reply_counts_once_in_redis(distant_cache: DistantCache) -> None:
    """Asking again would count the same request twice; this process's share decides instead."""
    limiter, limit = RateLimiter(distant_cache.cache), (LOGIN, "me")
    await limiter.check([limit])
    distant_cache.proxy.drop_reply(b"rate:login:me")
    assert await tried(limiter, limit) is None
    assert await distant_cache.near.client.get("rate:login:me") == b"2"


async def test_a_connection_that_was_cut_lets_nobody_around_the_limit(distant_cache: DistantCache) -> None:
    """The call that finds it dead is counted here, the next in Redis again."""
    limiter, limit = RateLimiter(distant_cache.cache), (LOGIN, "me")
    outcomes = []
    for _ in range(12):
        distant_cache.proxy.cut()
        outcomes += [await tried(limiter, limit), await tried(limiter, limit)]
    assert outcomes.count(None) <= 10  # the quota in Redis, and this process's share of it
    assert await tried(limiter, limit) is not None
