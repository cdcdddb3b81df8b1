"""What an operator holds by hand, and what there is to see."""

from datetime import UTC, datetime, timedelta

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.reliability.tests.circuit_breaker.support import fail, refuses, state_of
from reliability.circuit_breaker import CircuitBreaker, State, breakers
from reliability.telemetry import span
from reliability.testing import FakeClock


def test_forced_open_refuses_until_it_is_reset(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """No time that passes changes it."""
    in_flight = breaker.allow()
    breaker.force_open()
    clock.advance(1e6)
    in_flight.success()
    breaker.closed_elsewhere()
    breaker.opened_elsewhere(1.0, 1)
    assert refuses(breaker)
    assert state_of(breaker) is State.FORCED_OPEN
    breaker.reset()
    assert not refuses(breaker)


def test_disabled_lets_everything_through_until_it_is_reset(breaker: CircuitBreaker) -> None:
    """And what failed meanwhile does not count afterwards."""
    fail(breaker, 2)
    breaker.disable()
    fail(breaker, 100)
    breaker.opened_elsewhere(60.0, 1)
    assert state_of(breaker) is State.DISABLED
    breaker.reset()
    fail(breaker, 2)
    assert state_of(breaker) is State.CLOSED


def test_the_list_says_what_an_operator_asks(breaker: CircuitBreaker, clock: FakeClock) -> None:
    """State, why, since when, how many failures, when next."""
    assert breaker in breakers()
    fail(breaker, 3)
    opened = datetime.fromtimestamp(clock.time(), UTC)
    clock.advance(2.0)
    assert refuses(breaker)
    told = breaker.snapshot()
    assert (told.name, told.state, told.reason) == ("stripe", State.OPEN, "failures")
    assert (told.failures, told.openings, told.refused) == (3, 1, 1)
    assert abs(told.since - opened) < timedelta(milliseconds=1)
    assert told.next_try is not None
    assert abs(told.next_try - opened - timedelta(seconds=5)) < timedelta(milliseconds=1)
    clock.advance(3.0)
    breaker.allow().success()
    told = breaker.snapshot()
    assert (told.state, told.failures, told.openings, told.next_try) == (State.CLOSED, 0, 0, None)


def test_changes_and_refusals_are_events_of_the_span_they_happen_in(
    breaker: CircuitBreaker, spans: InMemorySpanExporter
) -> None:
    """Whoever reads the trace of a 503 sees which breaker gave it."""
    with span("request"):
        fail(breaker, 3)
        assert refuses(breaker)
    (request,) = spans.get_finished_spans()
    changed, refused = request.events
    assert changed.name == "circuit breaker"
    assert dict(changed.attributes or {}) == {
        "breaker": "stripe", "from": "closed", "to": "open", "reason": "failures"
    }  # fmt: skip
    assert refused.name == "circuit open"
    assert dict(refused.attributes or {}) == {"breaker": "stripe", "state": "open"}
