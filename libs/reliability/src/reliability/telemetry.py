"""Traces and metrics, set up in one call.

Spans leave over OTLP/HTTP; metrics are read at `/metrics`. Every span carries `correlation.id`, so one
business flow can be found again across requests, jobs and webhooks that have traces of their own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

from reliability.context import bind_correlation_id, correlation_id
from reliability.errors import ControlFlow, Problem

__all__ = [
    "CorrelationProcessor",
    "adopt_correlation",
    "carrier",
    "link_to",
    "mark_error",
    "setup_telemetry",
    "shutdown_telemetry",
    "span",
    "untraced",
]

_tracer = trace.get_tracer("reliability")
_ids = RandomIdGenerator()


class CorrelationProcessor(SpanProcessor):
    """Puts the correlation id of the context on each span that starts in it."""

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Called by the SDK when a span starts."""
        del parent_context  # the flow's id travels in its own context variable
        if value := correlation_id():
            span.set_attribute("correlation.id", value)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing to do."""


def setup_telemetry(service: str, endpoint: str | None, *, version: str = "0.1.0") -> None:
    """Starts exporting spans to `<endpoint>/v1/traces`; without an endpoint spans are made but go nowhere.

    Sampling follows the caller's `traceparent` and is 100 % where a trace starts here.
    """
    resource = Resource.create({"service.name": service, "service.version": version, "service.namespace": "holdfast"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(CorrelationProcessor())
    if endpoint:
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[PrometheusMetricReader()]))


def shutdown_telemetry() -> None:
    """Sends what is still buffered. Part of the drain."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    parent: Mapping[str, str] | None = None,
    links: list[Link] | None = None,
    **attributes: Any,
) -> Iterator[trace.Span]:
    """A span around the block. `parent` are W3C trace headers of a remote parent.

    A `Problem` below 500 is an answer, not an error of the span; anything else that is raised marks it.
    Attribute names use `_` for `.`.
    """
    context = propagate.extract(parent) if parent is not None else None
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        links=links,
        attributes={key.replace("_", "."): value for key, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            mark_error(current, error)
            raise


def mark_error(current: trace.Span, error: BaseException) -> None:
    """Marks a span by what ended its work; a `Problem` below 500 and a `ControlFlow` are no errors."""
    if isinstance(error, ControlFlow):
        return
    current.set_attribute("error.type", error.code if isinstance(error, Problem) else type(error).__name__)
    if not isinstance(error, Problem) or error.status >= 500:
        # The message may quote a customer's data; the type is enough to find the log line.
        current.set_status(Status(StatusCode.ERROR, type(error).__name__))


def adopt_correlation(value: str) -> None:
    """Makes this context and its current span part of a flow that was found out late, by a webhook's job say."""
    bind_correlation_id(value)
    trace.get_current_span().set_attribute("correlation.id", value)


@contextmanager
def untraced() -> Iterator[None]:
    """Nothing in the block is recorded: for polling, which would bury the traces of real work."""
    dropped = SpanContext(_ids.generate_trace_id(), _ids.generate_span_id(), is_remote=False)
    with trace.use_span(NonRecordingSpan(dropped)):
        yield


def carrier() -> dict[str, str]:
    """The W3C trace headers of the current span, to be stored or sent."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def link_to(headers: Mapping[str, str]) -> list[Link]:
    """A link to the span whose headers were stored with a job; empty when there are none."""
    stored = trace.get_current_span(propagate.extract(headers)).get_span_context()
    return [Link(stored)] if stored.is_valid else []
