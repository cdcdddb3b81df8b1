"""Traces and metrics of a process, set up in one call.

Spans leave over OTLP/HTTP; metrics are read at `/metrics`. Every span carries `correlation.id`, so one
business flow can be found again across requests, jobs and webhooks that have traces of their own.
"""

from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from reliability.context import correlation_id
from reliability.otlp import Exporter
from reliability.telemetry import TRACER

__all__ = ["CorrelationProcessor", "setup_telemetry", "shutdown_telemetry"]

# What a killed process takes with it, and what whoever reads a trace waits for; each export costs both ends a request.
_SECONDS: Final = 2.0


class CorrelationProcessor(SpanProcessor):
    """Puts the correlation id of the context on each span that starts in it, also on those of other libraries."""

    def on_start(self, span: Span, parent_context: otel_context.Context | None = None) -> None:
        """Called by the SDK when a span starts."""
        del parent_context  # the flow's id travels in its own context variable
        ours = span.instrumentation_scope is not None and span.instrumentation_scope.name == TRACER
        if not ours and (value := correlation_id()):  # ours are made with it, for half of the price
            span.set_attribute("correlation.id", value)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing to do."""


def setup_telemetry(
    service: str, endpoint: str | None, *, version: str = "0.1.0", exporter: SpanExporter | None = None
) -> None:
    """Starts exporting spans to `<endpoint>/v1/traces`, or by an `exporter` of your own.

    With neither, spans are made but go nowhere.

    They are sent every two seconds, and as soon as 512 wait. Sampling follows the caller's `traceparent` and is 100 %
    where a trace starts here. Calls and jobs carry the trace context and nothing else.
    """
    resource = Resource.create({"service.name": service, "service.version": version, "service.namespace": "holdfast"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(CorrelationProcessor())
    if endpoint and exporter is None:
        exporter = Exporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SECONDS * 1000))
    trace.set_tracer_provider(provider)
    # By OpenTelemetry's default baggage as well, which would carry what any client says to every service.
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[PrometheusMetricReader()]))


def shutdown_telemetry() -> None:
    """Sends what is still buffered. Part of the drain."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
