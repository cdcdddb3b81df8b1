"""What the tests of the breaker make, break and ask."""

from typing import Any

from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Rules, State
from reliability.testing import FakeClock

THREE = Rules(failures=3, window=60.0, open_seconds=5.0, open_cap=60.0, jitter=0.0)


def guard(clock: FakeClock, rules: Rules = THREE, **options: Any) -> CircuitBreaker:
    return CircuitBreaker("stripe", rules, now=clock, wall=clock.time, **options)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.allow().failure(ConnectionError())


def refuses(breaker: CircuitBreaker) -> bool:
    """Whether a call is refused; one that is not is given back."""
    try:
        breaker.allow().give_back()
    except CircuitOpen:
        return True
    return False


def state_of(breaker: CircuitBreaker) -> State:
    """Asked anew each time, where a type checker believes that nothing changes."""
    return breaker.state


def half_open(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """As after an opening whose time is up."""
    fail(breaker, 3)
    clock.advance(breaker.open_for)
