"""Telemetry as a service has it, with ends that keep nothing."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from reliability.exporting import CorrelationProcessor, setup_telemetry, shutdown_telemetry
from reliability.logging import setup_logging
from reliability.otlp import encode

__all__ = ["SAMPLED", "observed", "observed_as_services_are"]

SAMPLED = 0.1


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


class _Encoded(SpanExporter):
    """Makes of spans what is sent, and throws that away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode(spans).SerializeToString()
        return SpanExportResult.SUCCESS


@contextmanager
def observed(share: float) -> Iterator[None]:
    """Records metrics, samples a share of the traces, and writes log lines to where nobody reads them."""
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share))
    provider.add_span_processor(CorrelationProcessor())
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))
    with _lines_unread():
        yield
    provider.shutdown()


@contextmanager
def observed_as_services_are() -> Iterator[None]:
    """The telemetry of a service, every span recorded and encoded; only the request that sends them is missing."""
    setup_telemetry("bench", None, exporter=_Encoded())
    with _lines_unread():
        yield
    shutdown_telemetry()


@contextmanager
def _lines_unread() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere:
        with redirect_stdout(nowhere):
            setup_logging("bench")
        yield
