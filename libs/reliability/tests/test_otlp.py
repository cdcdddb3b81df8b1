"""Spans encoded by us are what OpenTelemetry's own encoder makes of them."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer, TraceState

from reliability.otlp import encode

REMOTE = SpanContext(2**127 + 5, 7, is_remote=True, trace_flags=TraceFlags(1))
STATEFUL = SpanContext(9, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("vendor", "x")]))


class Recorded:
    """A provider whose spans are kept; the first of them is not of interest."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(
            resource=Resource({"service.name": "shop"}), span_limits=SpanLimits(max_span_attributes=8)
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer: Tracer = self.provider.get_tracer("first", "1.0")
        self.tracer.start_span("the one that brings the resource along").end()

    def span(self, name: str, parent: SpanContext | None = None, **options: Any) -> trace.Span:
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent else None
        return self.tracer.start_span(name, context, **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._kept.get_finished_spans()

    def check(self) -> None:
        assert len(self.spans) > 1
        assert encode(self.spans) == encode_spans(self.spans)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"text": "ä", "empty": "", "yes": True, "no": False, "count": -(2**62), "zero": 0, "ratio": 0.5},
        {"list": ["a", "b"], "text": "beside it"},
        {"numbers": (1, 2, 3)},
        {"raw": b"\0\xff"},
        {f"many{n}": n for n in range(20)},
    ],
)
def test_attributes(recorded: Recorded, attributes: Mapping[str, Any]) -> None:
    """Of every type, and where some were dropped."""
    recorded.span("work", attributes=attributes).end()
    recorded.check()


@pytest.mark.parametrize("kind", list(SpanKind))
@pytest.mark.parametrize(
    "parent", [None, REMOTE, SpanContext(3, 4, is_remote=False, trace_flags=TraceFlags(1)), STATEFUL]
)
def test_kinds_and_parents(recorded: Recorded, kind: SpanKind, parent: SpanContext | None) -> None:
    """A root, a child of our own, a child of somebody else's, one with a vendor's state."""
    recorded.span("work", parent, kind=kind).end()
    recorded.check()


@pytest.mark.parametrize("status", [Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "why")])
def test_statuses(recorded: Recorded, status: Status) -> None:
    """With and without a word on why."""
    span = recorded.span("work")
    span.set_status(status)
    span.end()
    recorded.check()


def test_events_and_links(recorded: Recorded) -> None:
    """A retry is told, a link leads back, and may have attributes."""
    span = recorded.span("work", links=[Link(REMOTE), Link(SpanContext(3, 4, is_remote=False))])
    span.end()
    recorded.span("work", links=[Link(REMOTE, {"why": "a replay"})]).end()
    span = recorded.span("work")
    span.add_event("retry", {"attempt": 2})
    span.end()
    recorded.check()


def test_scopes_stay_apart(recorded: Recorded) -> None:
    """Spans say which library made them."""
    for name in ("second", "first", "second", "third"):
        recorded.provider.get_tracer(name, "1.0").start_span(name).end()
    told = encode(recorded.spans)
    found = {
        (scope.scope.name, span.name)
        for resource in told.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert found == {
        ("first", "the one that brings the resource along"),
        ("first", "first"),
        ("second", "second"),
        ("third", "third"),
    }
    assert {pair.value.string_value for each in told.resource_spans for pair in each.resource.attributes} == {"shop"}


def test_nothing_is_nothing() -> None:
    """An empty export is an empty message."""
    assert encode([]) == encode_spans([])


_CARRIED = """
from opentelemetry import context, propagate
from reliability.exporting import setup_telemetry
from reliability.telemetry import carrier

setup_telemetry("shop", None)
context.attach(propagate.extract({"traceparent": f"00-{5:032x}-{7:016x}-01", "baggage": "coupon=FREE"}))
print(*sorted(carrier()))
"""


def test_a_clients_baggage_stays_at_the_edge() -> None:
    """In a process of its own: the provider is everybody's."""
    ran = subprocess.run([sys.executable, "-c", _CARRIED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["traceparent"]
