"""When a breaker opens, and what is told to whom it refuses."""

from typing import Any

import orjson
import pytest

from libs.reliability.tests.circuit_breaker.support import fail, guard, refuses, state_of
from reliability.asgi.middleware import problem_response
from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Rules, State
from reliability.errors import NotFound, Unavailable
from reliability.testing import FakeClock


def test_three_failures_within_a_minute_open_it_and_two_do_not(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """However many calls succeed between them."""
    fail(breaker, 2)
    for _ in range(100):
        breaker.allow().success()
    assert state_of(breaker) is State.CLOSED
    clock.advance(59.9)
    fail(breaker)
    assert state_of(breaker) is State.OPEN
    assert refuses(breaker)


def test_a_failure_is_forgotten_after_the_window(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """One failure each half minute never opens it."""
    for _ in range(50):
        fail(breaker)
        clock.advance(30.0)
    assert state_of(breaker) is State.CLOSED


def test_a_refused_call_is_a_503_with_the_seconds_to_wait(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """And never gets to the dependency."""
    fail(breaker, 3)
    clock.advance(1.5)
    with pytest.raises(CircuitOpen) as refused:
        breaker.allow()
    status, headers, body = problem_response(refused.value)
    assert status == 503
    assert (b"retry-after", b"4") in headers
    assert orjson.loads(body)["code"] == "circuit_open"
    assert refused.value.grpc == "UNAVAILABLE"
    assert isinstance(refused.value, Unavailable)


def test_a_failure_rate_opens_it_from_the_minimum_of_calls_on(clock: FakeClock) -> None:
    """Half of nineteen calls is no share of anything yet."""
    breaker = guard(clock, Rules(failures=None, failure_rate=0.5, minimum_calls=20))
    for _ in range(9):
        breaker.allow().success()
        fail(breaker)
    assert state_of(breaker) is State.CLOSED
    breaker.allow().success()
    fail(breaker)
    assert (breaker.state, breaker.reason) == (State.OPEN, "failure rate")


def test_a_failure_rate_speaks_of_the_window_only(clock: FakeClock) -> None:
    """What was long ago neither opens it nor keeps it closed."""
    rules = Rules(failures=None, failure_rate=0.5, minimum_calls=10, window=60.0)
    breaker = guard(clock, rules)
    fail(breaker, 9)
    clock.advance(61.0)
    for _ in range(9):
        breaker.allow().success()
    fail(breaker)
    assert state_of(breaker) is State.CLOSED
    clock.advance(61.0)
    fail(breaker, 10)
    assert state_of(breaker) is State.OPEN


def test_slow_answers_open_it_like_failures_do(clock: FakeClock) -> None:
    """Each call is timed from its own permit."""
    breaker = guard(clock, Rules(failures=None, slow_rate=0.5, slow_seconds=2.0, minimum_calls=4))
    quick = [breaker.allow(), breaker.allow()]
    for permit in quick:
        permit.success()
    slow = [breaker.allow(), breaker.allow()]
    clock.advance(1.0)
    breaker.allow().success()
    clock.advance(1.0)
    slow[0].success()
    assert state_of(breaker) is State.CLOSED
    slow[1].failure(NotFound())  # an answer, but late
    assert state_of(breaker) is State.CLOSED
    late = breaker.allow()
    clock.advance(2.0)
    late.success()
    assert (breaker.state, breaker.reason) == (State.OPEN, "slow calls")


@pytest.mark.parametrize(
    "values",
    [
        {"failures": 0},
        {"failures": None},
        {"permits": 0},
        {"failure_rate": 0.0},
        {"slow_rate": 1.1},
        {"window": 0.0},
        {"jitter": 1.0},
        {"open_seconds": 9.0, "open_cap": 8.0},
    ],
)
def test_rules_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    """When they are made, not when they are needed."""
    with pytest.raises(ValueError):
        Rules(**values)
