"""What the end of a call says about the dependency, and what callers do to it does not."""

import asyncio
from contextlib import suppress

import pytest

from libs.reliability.tests.circuit_breaker.support import THREE, fail, guard, half_open, refuses, state_of
from reliability.bulkhead import Overloaded
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Outcome, Rules, State, judge
from reliability.errors import DeadlineExceeded, Internal, NotFound, Unavailable
from reliability.testing import FakeClock


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionError(), Outcome.FAILED),
        (TimeoutError(), Outcome.FAILED),
        (DeadlineExceeded("stripe"), Outcome.FAILED),
        (Internal(), Outcome.FAILED),
        (Unavailable(), Outcome.FAILED),
        (NotFound(), Outcome.SUCCEEDED),
        (Overloaded(), Outcome.NEUTRAL),
        (CircuitOpen(), Outcome.NEUTRAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_answers_are_no_failures_and_what_was_never_asked_is_nothing(error: Exception, outcome: Outcome) -> None:
    """A 404 says that the dependency is well; a full bulkhead of our own says nothing about it."""
    assert judge(error) is outcome


def test_the_judge_can_be_another(clock: FakeClock) -> None:
    """Whoever knows the dependency knows better."""
    breaker = guard(clock, judge=lambda error: Outcome.FAILED if isinstance(error, KeyError) else Outcome.NEUTRAL)
    fail(breaker, 10)
    assert state_of(breaker) is State.CLOSED
    for _ in range(3):
        with suppress(KeyError), breaker.allow():
            raise KeyError
    assert state_of(breaker) is State.OPEN


async def test_with_async_with_and_call_are_the_same(clock: FakeClock) -> None:
    """Each counts a failure, hands on what was raised, and frees the permit after a success."""
    breaker = guard(clock, Rules(failures=4, jitter=0.0))

    async def fails() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError), breaker.allow():
        await fails()
    with pytest.raises(ConnectionError):
        async with breaker.allow():
            await fails()
    with pytest.raises(ConnectionError):
        await breaker.call(fails)
    assert await breaker.call(_answer) == "answer"
    async with breaker.allow():
        pass
    assert breaker.snapshot().failures == 3
    with suppress(ConnectionError), breaker.allow():
        await fails()
    assert state_of(breaker) is State.OPEN


@pytest.mark.parametrize("timed", [False, True])
async def test_three_impatient_clients_do_not_open_it(clock: FakeClock, timed: bool) -> None:
    """A cancelled call says something about who made it, nothing about the dependency."""
    rules = Rules(slow_rate=0.1, minimum_calls=1) if timed else THREE
    breaker = guard(clock, rules)
    tasks = [asyncio.create_task(breaker.call(asyncio.Event().wait)) for _ in range(50)]
    await asyncio.sleep(0)
    clock.advance(30.0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert (breaker.state, breaker.snapshot().failures) == (State.CLOSED, 0)


async def test_a_cancelled_probe_gives_its_permit_back(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """It neither closes nor opens it again, and the next caller may try."""
    half_open(breaker, clock)
    probe = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    assert refuses(breaker)
    probe.cancel()
    with suppress(asyncio.CancelledError):
        await probe
    assert state_of(breaker) is State.HALF_OPEN
    await breaker.call(_answer)
    assert state_of(breaker) is State.CLOSED


async def _answer() -> str:
    return "answer"


async def test_a_timeout_inside_counts(breaker: CircuitBreaker) -> None:
    """A hung dependency shows itself by nothing else."""

    async def hang() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await breaker.call(hang)
    assert state_of(breaker) is State.OPEN
