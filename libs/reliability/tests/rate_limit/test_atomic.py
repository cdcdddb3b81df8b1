"""Several limits and a thousand callers: each request is decided in one step."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from libs.reliability.tests.rate_limit.support import GCRA, HOUR, PACED, Decisions, passed, tried
from libs.reliability.tests.support import DistantCache
from reliability import deadline
from reliability.errors import RateLimited
from reliability.rate_limit import LOGIN, SIGNUP, Policy, RateLimiter
from reliability.redis import Cache

if TYPE_CHECKING:
    from conftest import Servers


@pytest_asyncio.fixture(loop_scope="session")
async def crowded(servers: "Servers", cache: Cache, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    """A cache for a thousand callers at once, on a machine that may be slow."""
    monkeypatch.setattr(deadline, "CACHE_CAP", 60.0)
    crowded = Cache(servers.endpoints.redis, socket_timeout=60.0)
    yield crowded
    await crowded.close()


async def test_several_limits_of_both_kinds_take_one_round_trip(distant_cache: DistantCache) -> None:
    """The client and the account, in one script."""
    limiter = RateLimiter(distant_cache.cache)
    limits = [(LOGIN, "client"), (PACED, "client"), (replace(LOGIN, name="account"), "me"), (SIGNUP, "client")]
    await limiter.check(limits)  # the first call may have to send the script
    sent = distant_cache.proxy.count(b"EVAL"), distant_cache.proxy.count(b"\r\n*")
    await limiter.check(limits)
    assert (distant_cache.proxy.count(b"EVAL"), distant_cache.proxy.count(b"\r\n*")) == (sent[0] + 1, sent[1] + 1)
    assert await distant_cache.near.client.dbsize() == 4


async def test_a_refused_request_is_charged_by_fixed_windows_only(cache: Cache) -> None:
    """Fixed windows count who asks, GCRA what is admitted: a caller over one limit does not use up the others."""
    limiter = RateLimiter(cache)
    fixed, other = Policy("fixed", 2, 60), replace(PACED, name="other", quota=3)
    for spent, left in (((other, "me"), (PACED, "me")), ((fixed, "me"), (PACED, "you"))):
        while await tried(limiter, spent) is None:
            pass
        assert await passed(limiter, spent, left, times=10) == 0
        assert await passed(limiter, left, times=10) == 6
    before = int(await cache.client.get("rate:fixed:me") or 0)
    await passed(limiter, (other, "me"), (fixed, "me"), times=10)
    assert int(await cache.client.get("rate:fixed:me") or 0) == before + 10


async def test_the_longest_wait_of_those_that_refuse_is_told_and_all_of_them_are_named(cache: Cache) -> None:
    """Coming back for the shorter one would be in vain."""
    limiter = RateLimiter(cache)
    short, long, free = Policy("short", 1, 10), Policy("long", 1, 100), Policy("free", 50, 1000)
    limits = [(short, "me"), (long, "me"), (free, "me")]
    assert await tried(limiter, *limits) is None
    with pytest.raises(RateLimited) as refused:
        await limiter.check(limits)
    assert refused.value.retry_after in {99, 100}
    assert refused.value.document("c")["violated-policies"] == ["short", "long"]


@pytest.mark.parametrize("policy", [Policy("fixed", 100, HOUR), Policy("paced", 100, HOUR, GCRA)])
async def test_of_a_thousand_at_once_as_many_pass_as_may(crowded: Cache, decisions: Decisions, policy: Policy) -> None:
    """A hundred, from ten processes' worth of limiters."""
    limiters = [RateLimiter(crowded) for _ in range(10)]
    passes = await asyncio.gather(*(passed(limiter, (policy, "me"), times=100) for limiter in limiters))
    assert sum(passes) == 100
    assert decisions.seen() == {f"{policy.name} allowed redis": 100, f"{policy.name} denied redis": 900}


async def test_a_thousand_accounts_do_not_help_one_client(crowded: Cache) -> None:
    """The limit of the client holds whatever else is counted with it."""
    limiter, client = RateLimiter(crowded), replace(LOGIN, name="client")
    waits = await asyncio.gather(*(tried(limiter, (client, "me"), (PACED, str(n))) for n in range(1000)))
    assert waits.count(None) == 5
    assert len(await crowded.client.keys("gcra:*")) == 5
