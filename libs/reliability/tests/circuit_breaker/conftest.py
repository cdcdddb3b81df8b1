"""Fixtures of the breaker."""

import pytest

from libs.reliability.tests.circuit_breaker.support import guard
from reliability.circuit_breaker import CircuitBreaker
from reliability.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breaker(clock: FakeClock) -> CircuitBreaker:
    """Opens at 3 failures in 60 s, for exactly 5."""
    return guard(clock)
