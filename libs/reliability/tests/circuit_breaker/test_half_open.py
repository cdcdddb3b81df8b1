"""Half-open: so many probes and no more, and what their ends decide."""

import asyncio

from libs.reliability.tests.circuit_breaker.support import THREE, fail, guard, half_open, refuses, state_of
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Rules, State
from reliability.testing import FakeClock


async def test_two_hundred_callers_at_the_same_moment_make_one_probe(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """One that lets everybody through when half-open is a stampede."""
    half_open(breaker, clock)
    inside = peak = 0
    go = asyncio.Event()

    async def probe() -> None:
        nonlocal inside, peak
        inside += 1
        peak = max(peak, inside)
        await go.wait()
        inside -= 1

    calls = [asyncio.create_task(breaker.call(probe)) for _ in range(200)]
    await asyncio.sleep(0)
    go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert peak == 1
    assert sum(isinstance(outcome, CircuitOpen) for outcome in outcomes) == 199
    assert state_of(breaker) is State.CLOSED


def test_so_many_permits_at_once_and_so_many_successes_close_it(clock: FakeClock) -> None:
    """A permit that comes back lets the next one go."""
    breaker = guard(clock, Rules(permits=2, successes=3, jitter=0.0))
    half_open(breaker, clock)
    first, second = breaker.allow(), breaker.allow()
    assert refuses(breaker)
    first.success()
    third = breaker.allow()
    assert refuses(breaker)
    second.success()
    assert state_of(breaker) is State.HALF_OPEN
    third.success()
    assert state_of(breaker) is State.CLOSED


def test_a_permit_counts_once(clock: FakeClock) -> None:
    """Told twice by mistake, it is one success."""
    breaker = guard(clock, Rules(permits=2, successes=2, jitter=0.0))
    half_open(breaker, clock)
    permit = breaker.allow()
    permit.success()
    permit.success()
    assert state_of(breaker) is State.HALF_OPEN


def test_one_failed_probe_opens_it_again_and_for_longer(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Twice as long each time, up to the cap; a closing starts over."""
    half_open(breaker, clock)
    seconds = []
    for _ in range(6):
        fail(breaker)
        seconds.append(breaker.open_for)
        clock.advance(breaker.open_for)
    assert seconds == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    breaker.allow().success()
    fail(breaker, 3)
    assert breaker.open_for == 5.0


def test_jitter_only_shortens() -> None:
    """By the share the rules say."""
    rules = Rules(open_seconds=8.0, open_cap=60.0, jitter=0.25)
    assert rules.opening(1, lambda low, _high: low) == 8.0
    assert rules.opening(1, lambda _low, high: high) == 6.0
    assert rules.opening(5000, lambda _low, high: high) == 45.0


def test_a_failed_probe_is_enough_whatever_the_others_say(clock: FakeClock) -> None:
    """Their success belongs to a time before it opened again."""
    breaker = guard(clock, Rules(permits=3, jitter=0.0))
    half_open(breaker, clock)
    first, second, third = breaker.allow(), breaker.allow(), breaker.allow()
    second.failure(ConnectionError())
    assert state_of(breaker) is State.OPEN
    first.success()
    third.failure(ConnectionError())
    assert (breaker.state, breaker.openings) == (State.OPEN, 2)


def test_the_end_of_a_call_from_before_the_opening_says_nothing(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Neither that all is well nor that all is lost; nor does it count in the next closed time."""
    stragglers = [breaker.allow() for _ in range(6)]
    half_open(breaker, clock)
    probe = breaker.allow()
    stragglers[0].success()
    stragglers[1].failure(ConnectionError())
    assert state_of(breaker) is State.HALF_OPEN
    assert refuses(breaker)  # none of them has given the probe's permit back
    probe.success()
    for straggler in stragglers[2:]:
        straggler.failure(ConnectionError())
    assert (breaker.state, breaker.snapshot().failures) == (State.CLOSED, 0)


def test_a_permit_that_never_comes_back_is_given_to_another(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """Or a lost caller would keep it half-open for ever."""
    half_open(breaker, clock)
    lost = breaker.allow()
    clock.advance(THREE.permit_seconds - 0.1)
    assert refuses(breaker)
    clock.advance(0.1)
    other = breaker.allow()
    assert refuses(breaker)
    lost.give_back()  # its place has gone to the other
    assert refuses(breaker)
    other.success()
    assert state_of(breaker) is State.CLOSED


def test_a_slow_probe_is_a_failed_one(clock: FakeClock) -> None:
    """Where slowness opens it, it must not close it."""
    breaker = guard(clock, Rules(slow_rate=0.5, slow_seconds=2.0, jitter=0.0))
    half_open(breaker, clock)
    probe = breaker.allow()
    clock.advance(2.0)
    probe.success()
    assert (breaker.state, breaker.reason) == (State.OPEN, "slow probe")
