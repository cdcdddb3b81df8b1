"""Of several layers one repeats, and the trace shows how often."""

from collections.abc import Awaitable, Callable

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.reliability.tests.retry.support import Clock, Failing
from reliability import telemetry
from reliability.retry import parse_attempts, previous_attempts, previous_attempts_scope, retry


async def test_three_layers_do_not_multiply(clock: Clock) -> None:
    """Seven calls, not twenty-seven: what is below a second attempt makes one."""
    seen: list[int] = []

    async def bottom() -> None:
        seen.append(previous_attempts())
        raise ConnectionRefusedError

    def layered(below: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        return lambda: retry(below, sleep=clock.sleep)

    with pytest.raises(ConnectionRefusedError):
        await layered(layered(layered(bottom)))()
    assert seen == [0, 1, 2, 1, 2, 1, 2]
    assert previous_attempts() == 0


async def test_below_a_callers_second_attempt_there_is_one() -> None:
    """However many are allowed; the number goes on unchanged."""
    call = Failing(ConnectionRefusedError())
    with previous_attempts_scope(1), pytest.raises(ConnectionRefusedError):
        await retry(call, attempts=8)
    assert call.calls == 1


@pytest.mark.parametrize(
    ("value", "count"), [("2", 2), ("0", 0), (None, 0), ("", 0), ("-1", 0), ("x", 0), ("²", 0), ("99999", 0)]
)
def test_an_attempt_number_is_a_small_number_or_none(value: str | None, count: int) -> None:
    """It comes over the network."""
    assert parse_attempts(value) == count


async def test_each_retry_and_the_end_of_them_is_seen_in_the_trace(clock: Clock, spans: InMemorySpanExporter) -> None:
    """Events of the span that runs: which attempt, after which wait, for which error, and why it ended."""
    call = Failing(*[ConnectionRefusedError()] * 3)
    with telemetry.span("work"), pytest.raises(ConnectionRefusedError):
        await retry(call, base=1, uniform=lambda _, high: high, sleep=clock.sleep)
    (span,) = spans.get_finished_spans()
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
        ("retry", {"attempt": 1, "wait": 1.0, "error.type": "ConnectionRefusedError"}),
        ("retry", {"attempt": 2, "wait": 2.0, "error.type": "ConnectionRefusedError"}),
        ("gave up", {"attempt": 3, "reason": "attempts", "error.type": "ConnectionRefusedError"}),
    ]
