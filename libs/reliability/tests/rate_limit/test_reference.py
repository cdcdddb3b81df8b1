"""Every decision against a reference: a counter for fixed windows, a bucket of tokens for GCRA."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from libs.reliability.tests.rate_limit.support import (
    GCRA,
    HOUR,
    NOWHERE,
    PACED,
    parsed,
    pass_time,
    passed,
    without_redis,
)
from reliability.errors import RateLimited
from reliability.rate_limit import Policy, RateLimiter
from reliability.redis import Cache

if TYPE_CHECKING:
    from conftest import Servers

T = TypeVar("T")
Limits = Sequence[tuple[Policy, str]]
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
