"""What every policy promises, whatever its algorithm, and what is refused as one."""

from dataclasses import replace
from typing import Any

import pytest

from libs.reliability.tests.rate_limit.support import GCRA, HOUR, PACED, passed, tried
from reliability.rate_limit import LOGIN, SIGNUP, Algorithm, Policy, RateLimiter
from reliability.redis import Cache


def test_the_presets_are_five_logins_and_three_signups_in_a_quarter_of_an_hour() -> None:
    """What the audit found in place."""
    assert (LOGIN.quota, LOGIN.window, SIGNUP.quota, SIGNUP.window) == (5, 900, 3, 900)
    assert {LOGIN.algorithm, SIGNUP.algorithm} == {Algorithm.FIXED_WINDOW}
    assert not LOGIN.shadow
    assert not SIGNUP.shadow


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": -1},
        {"window": 31 * 24 * HOUR + 1},
        {"window": 0.5},
        {"window": True},
        {"quota": -1},
        {"quota": 1_000_000_001},
        {"quota": 1.5},
        {"name": ""},
        {"name": "a:b"},
        {"name": 'a"b'},
        {"name": "é"},
        {"name": "a" * 65},
        {"burst": 5},
        {"burst": 0, "algorithm": GCRA},
        {"quota": 10_001, "window": 1, "algorithm": GCRA},
        {"quota": 1, "window": 31 * 24 * HOUR, "burst": 12, "algorithm": GCRA},
    ],
)
def test_a_policy_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    """At start-up, not when the first request comes."""
    with pytest.raises(ValueError, match=r"."):
        Policy(**{"name": "x", "quota": 5, "window": 900, **wrong})


@pytest.mark.parametrize(("quota", "window"), [(7, 900), (9_999, 1), (1, 1), (11, 31 * 24 * HOUR)])
def test_an_interval_is_rounded_up(quota: int, window: int) -> None:
    """In a window no more than the quota comes back, and hardly less."""
    policy = Policy("odd", quota, window, GCRA)
    assert 0 <= policy.interval * quota - window * 1_000_000 < quota


@pytest.mark.parametrize("window", [1, 31 * 24 * HOUR])
@pytest.mark.parametrize("algorithm", Algorithm)
async def test_the_shortest_and_the_longest_window_work(cache: Cache, window: int, algorithm: Algorithm) -> None:
    """One passes, the next waits no longer than the window."""
    limits = RateLimiter(cache), (Policy("edge", 1, window, algorithm), "me")
    assert await tried(*limits) is None
    assert window - 1 <= (await tried(*limits) or 0) <= window


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("is_away", [False, True])
async def test_a_quota_of_zero_refuses_everything(
    cache: Cache, away: Cache, algorithm: Algorithm, is_away: bool
) -> None:
    """The switch that turns something off, with Redis and without."""
    limiter = RateLimiter(away if is_away else cache)
    policy = Policy("off", 0, 60, algorithm, burst=5 if algorithm is GCRA else None)
    assert await passed(limiter, (policy, "me"), times=3) == 0
    assert 0 < (await tried(limiter, (policy, "me")) or 0) <= 60


@pytest.mark.parametrize("policy", [LOGIN, PACED])
async def test_a_cost_above_everything_is_never_admitted(cache: Cache, policy: Policy) -> None:
    """And does not lead to a wait of centuries."""
    wait = await tried(RateLimiter(cache), (policy, "me"), cost=1_000_000)
    assert 0 < (wait or 0) <= policy.window


@pytest.mark.parametrize("cost", [0, -1, 1_000_001])
async def test_a_cost_out_of_bounds_is_refused(cache: Cache, cost: int) -> None:
    """A negative one would give units back."""
    with pytest.raises(ValueError, match="cost"):
        await RateLimiter(cache).check([(LOGIN, "me")], cost=cost)
    assert await cache.client.dbsize() == 0


async def test_subjects_and_policies_do_not_share(cache: Cache) -> None:
    """Another client, another limit; long or odd names stay apart too and are not kept as they are."""
    limiter = RateLimiter(cache)
    one = Policy("one", 1, 60)
    subjects = ["a", "b", "", "é", "e\u0301", "\ud800", "a" * 1000, "a" * 1001]
    for subject in subjects:
        assert await tried(limiter, (one, subject)) is None
        assert await tried(limiter, (replace(one, name="two"), subject)) is None
        assert await tried(limiter, (replace(one, algorithm=GCRA), subject)) is None
        assert await tried(limiter, (one, subject)) is not None
    assert max(len(key) for key in await cache.client.keys()) < 150


async def test_the_same_limit_twice_is_a_mistake(cache: Cache) -> None:
    """It would be charged once and told twice."""
    with pytest.raises(ValueError, match="twice"):
        await RateLimiter(cache).check([(PACED, "me"), (PACED, "me")])


async def test_no_limits_let_everything_pass(cache: Cache) -> None:
    """And say nothing."""
    assert await RateLimiter(cache).check([]) == {}
