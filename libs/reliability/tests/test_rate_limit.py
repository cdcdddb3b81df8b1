"""Limits nobody gets around: in Redis, at once, without Redis, and against a reference."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from libs.reliability.tests.support import DistantCache, eventually
from reliability import deadline
from reliability.errors import RateLimited
from reliability.rate_limit import LOGIN, SIGNUP, Algorithm, Policy, RateLimiter, WhenDown, limiter
from reliability.rate_limit.fallback import Fallback
from reliability.redis import Cache
from reliability.tally import Tally

if TYPE_CHECKING:
    from conftest import Servers

T = TypeVar("T")
Limits = Sequence[tuple[Policy, str]]
# Nothing listens on port 1: a Redis that is away.
NOWHERE = "redis://127.0.0.1:1/0"
HOUR = 3600
GCRA = Algorithm.GCRA
# One every ten minutes, six at once.
PACED = Policy("paced", 6, HOUR, GCRA)


class Decisions:
    """What was counted, by policy, outcome and basis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reader = InMemoryMetricReader()
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "get_meter", MeterProvider([self._reader]).get_meter)
            fresh = Tally("decisions", "Decisions", ["policy", "outcome", "basis"])
        monkeypatch.setattr(limiter, "_decisions", fresh)

    def seen(self) -> dict[str, int]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        return {
            " ".join(str((point.attributes or {})[name]) for name in ("policy", "outcome", "basis")): int(
                getattr(point, "value", 0)
            )
            for point in points
        }


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Decisions:
    return Decisions(monkeypatch)


@pytest_asyncio.fixture(loop_scope="session")
async def crowded(servers: "Servers", cache: Cache, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    """A cache for a thousand callers at once, on a machine that may be slow."""
    monkeypatch.setattr(deadline, "CACHE_CAP", 60.0)
    crowded = Cache(servers.endpoints.redis, socket_timeout=60.0)
    yield crowded
    await crowded.close()


@pytest_asyncio.fixture(loop_scope="session")
async def away() -> AsyncIterator[Cache]:
    """A cache that is away."""
    away = Cache(NOWHERE)
    yield away
    await away.close()


async def tried(limiter: RateLimiter, *limits: tuple[Policy, str], cost: int = 1) -> int | None:
    """None when the request passed, else the seconds to wait."""
    try:
        await limiter.check(limits, cost=cost)
    except RateLimited as refused:
        wait = refused.retry_after
    else:
        return None
    assert wait is not None
    assert wait == int(wait) >= 1
    return int(wait)


async def passed(limiter: RateLimiter, *limits: tuple[Policy, str], times: int, cost: int = 1) -> int:
    """How many of so many requests at once passed."""
    waits = await asyncio.gather(*(tried(limiter, *limits, cost=cost) for _ in range(times)))
    return waits.count(None)


async def pass_time(cache: Cache, seconds: int) -> None:
    """As if `seconds` had gone by. The script knows the server's clock only, so what it keeps is moved back instead."""
    async for key in cache.client.scan_iter("*"):
        if (left := await cache.client.pttl(key) - seconds * 1000) <= 0:
            await cache.client.delete(key)
            continue
        if key.startswith(b"gcra:"):
            arrival = int(await cache.client.get(key) or 0)
            await cache.client.set(key, arrival - seconds * 1_000_000, keepttl=True)
        await cache.client.pexpire(key, left)


# -- policies


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


# -- fixed windows


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


async def test_an_interval_ends_by_the_servers_clock(cache: Cache) -> None:
    """The same for GCRA, whose state has no end but an instant."""
    limiter, limit = RateLimiter(cache), (Policy("short", 1, 1, GCRA), "me")
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


# -- GCRA


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


async def server_time(cache: Cache) -> int:
    """Microseconds since 1970."""
    seconds, micros = await cache.client.time()
    return int(seconds) * 1_000_000 + int(micros)


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


# -- several at once


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


# -- the script and what it repairs


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


# -- at once


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


# -- fields

# RFC 9651, sections 3.1, 3.1.2, 3.3.1, 3.3.3: a List of Strings with Integers as parameters.
_ITEM = re.compile(r'"(?P<name>[\x20-\x21\x23-\x5b\x5d-\x7e]*)"(?P<parameters>(;[a-z*][a-z0-9_.*-]*=-?[0-9]{1,15})*)')


def parsed(value: str) -> list[tuple[str, dict[str, int]]]:
    """The members of a structured field."""
    members = []
    for text in value.split(", "):
        item = _ITEM.fullmatch(text)
        assert item, text
        pairs = (pair.split("=") for pair in item["parameters"].split(";")[1:])
        members.append((item["name"], {name: int(number) for name, number in pairs}))
    return members


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


# -- shadow


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


# -- without Redis


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def without_redis(cache: Cache, clock: Callable[[], float], processes: int = 1) -> RateLimiter:
    """A limiter whose fallback has a clock of ours."""
    limiter = RateLimiter(cache, processes=processes)
    limiter._fallback = Fallback(processes, clock)
    return limiter


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


# -- against a reference

POLICIES = [
    Policy("fixed", 4, HOUR),
    Policy("off", 0, HOUR),
    Policy("long", 9, 2 * HOUR),
    PACED,
    Policy("bursty", 2, HOUR, GCRA, burst=5),
    Policy("narrow", 6, HOUR, GCRA, burst=1),
    Policy("dark", 2, HOUR, shadow=True),
    Policy("dim", 2, HOUR, GCRA, shadow=True),
]


@dataclass
class Window:
    """A fixed window as anybody would write it."""

    policy: Policy
    count: int = 0
    end: int = -1
    admitted: list[tuple[int, int]] = field(default_factory=list)

    def ask(self, now: int, cost: int) -> bool:
        if self.end <= now:
            self.count, self.end = 0, now + self.policy.window
        self.count += cost
        return self.count <= self.policy.quota

    def charge(self, now: int, cost: int) -> None:
        self.admitted.append((now, cost))

    def told(self, now: int, cost: int) -> tuple[int, int, int]:
        """Units left, seconds until there are more, seconds until so much would pass."""
        return max(0, self.policy.quota - self.count), self.end - now, self.end - now

    def holds(self) -> bool:
        """From its first request on, a window admits its quota and no more; so any length of time at most two."""
        spans = ((start, start + self.policy.window) for start, _ in self.admitted)
        return all(
            sum(cost for at, cost in self.admitted if low <= at < high) <= 2 * self.policy.quota for low, high in spans
        )


@dataclass
class Bucket:
    """GCRA's twin: a bucket of tokens that fills at an even pace."""

    policy: Policy
    level: Fraction = Fraction(-1)
    at: int = 0
    admitted: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.policy.burst or self.policy.quota

    @property
    def pace(self) -> Fraction:
        return Fraction(self.policy.quota, self.policy.window)

    def ask(self, now: int, cost: int) -> bool:
        if self.level < 0:
            self.level = Fraction(self.size)
        self.level = min(Fraction(self.size), self.level + (now - self.at) * self.pace)
        self.at = now
        return self.level >= cost

    def charge(self, now: int, cost: int) -> None:
        self.level -= cost
        self.admitted.append((now, cost))

    def told(self, now: int, cost: int) -> tuple[int, int, int]:
        whole = int(self.level)
        reset = 0 if self.level == self.size else int((whole + 1 - self.level) / self.pace)
        return whole, reset, int(min((cost - self.level) / self.pace, self.size / self.pace))

    def holds(self) -> bool:
        """In any stretch of time no more than the burst and what came back meanwhile."""
        times = [at for at, _ in self.admitted]
        return all(
            sum(cost for at, cost in self.admitted if low <= at <= high) <= self.size + (high - low) * self.pace
            for low in times
            for high in times
            if low <= high
        )


class Reference(RuleBasedStateMachine):
    """Any limits together, alone or many at once, as time goes by in steps of ten minutes.

    Every instant of the reference is a multiple of ten minutes, so that the few moments that really pass meanwhile
    change no decision; of times, the last minute is not compared.
    """

    url: str
    in_redis: bool

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 0
        self.known: dict[tuple[str, str], Window | Bucket] = {}

    def do(self, step: Awaitable[T]) -> T:
        return self.loop.run_until_complete(step)

    @initialize()
    def start(self) -> None:
        self.cache = Cache(self.url if self.in_redis else NOWHERE)
        self.limiter = RateLimiter(self.cache)
        if self.in_redis:
            self.do(self.cache.client.flushall())
        else:
            self.limiter = without_redis(self.cache, lambda: float(self.now))

    def model(self, policy: Policy, subject: str) -> Window | Bucket:
        kind = Bucket if policy.algorithm is GCRA else Window
        return self.known.setdefault((policy.name, subject), kind(policy))

    def expected(self, models: Sequence[Window | Bucket], cost: int) -> bool:
        """What the reference decides, charging what is to be charged."""
        own = [model.ask(self.now, cost) for model in models]
        admitted = all(ok for model, ok in zip(models, own, strict=True) if not model.policy.shadow)
        for model, ok in zip(models, own, strict=True):
            if ok and admitted:
                model.charge(self.now, cost)
        self.refusing = [m for m, ok in zip(models, own, strict=True) if not ok and not m.policy.shadow]
        return admitted

    limits = st.lists(st.tuples(st.sampled_from(POLICIES), st.sampled_from("ab")), min_size=1, max_size=4, unique=True)
    costs = st.integers(1, 3) | st.integers(1, 10)

    @rule(limits=limits, cost=costs)
    def ask(self, limits: Limits, cost: int) -> None:
        """One request: the decision, the wait, and what is told."""
        models = [self.model(policy, subject) for policy, subject in limits]
        wait = None
        try:
            told = self.do(self.limiter.check(limits, cost=cost))
        except RateLimited as refused:
            told, wait = refused.headers, int(refused.retry_after or 0)
        assert (wait is None) is self.expected(models, cost)
        if wait is not None:
            assert close(wait, max(model.told(self.now, cost)[2] for model in self.refusing))
        lit = [model for model in models if not model.policy.shadow]
        members = parsed(told["RateLimit"]) if told else []
        assert [name for name, _ in members] == [model.policy.name for model in lit]
        for model, (_, member) in zip(lit, members, strict=True):
            left, reset, _ = model.told(self.now, cost)
            assert member["r"] == left
            assert close(member["t"], reset)

    @rule(limits=limits, cost=st.integers(1, 2), times=st.integers(2, 12))
    def ask_at_once(self, limits: Limits, cost: int, times: int) -> None:
        """The same request many times at once: as many pass as would one after another."""
        models = [self.model(policy, subject) for policy, subject in limits]
        passes = self.do(passed(self.limiter, *limits, times=times, cost=cost))
        assert passes == Counter(self.expected(models, cost) for _ in range(times))[True]

    @rule(steps=st.integers(1, 14))
    def time_passes(self, steps: int) -> None:
        self.now += steps * 600
        if self.in_redis:
            self.do(pass_time(self.cache, steps * 600))

    def teardown(self) -> None:
        assert all(model.holds() for model in self.known.values() if not model.policy.shadow)
        self.do(self.cache.close())
        self.loop.close()


def close(seconds: int, exact: int) -> bool:
    """Whether it is the reference's number, or at most a minute below."""
    return max(0, exact - 60) <= seconds <= max(1, exact)


@pytest.mark.parametrize("in_redis_", [True, False])
def test_every_decision_is_that_of_the_reference(servers: "Servers", in_redis_: bool) -> None:
    """In Redis and in the process: fixed windows against a counter, GCRA against a bucket of tokens."""

    class Here(Reference):
        url = servers.endpoints.redis
        in_redis = in_redis_

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
