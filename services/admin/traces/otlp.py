"""OTLP messages as batches of spans (https://opentelemetry.io/docs/specs/otlp)."""

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from services.admin.traces.domain import Batch, Span, kept_attributes, kept_name

__all__ = ["CORRELATION", "batches_of"]

CORRELATION: Final = "correlation.id"
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_MAX_DEPTH: Final = 4
_MAX_EVENTS: Final = 64
_YEAR_2200_NS: Final = 7_258_118_400 * 10**9


def batches_of(request: ExportTraceServiceRequest) -> tuple[list[Batch], int]:
    """What a request says of each trace, and how many spans could not be used: no ids, or an impossible time."""
    batches: dict[tuple[bytes, str, str | None], Batch] = {}
    rejected = 0
    for resource in request.resource_spans:
        service = _service(resource.resource.attributes)
        for scope in resource.scope_spans:
            for exported in scope.spans:
                if not _usable(exported):
                    rejected += 1
                    continue
                span = _span(exported)
                key = (exported.trace_id, service, _correlation(span))
                if (batch := batches.get(key)) is None:
                    batch = batches[key] = Batch(key[0].hex(), *key[1:])
                batch.spans.append(span)
    return list(batches.values()), rejected


def _usable(span: trace_pb2.Span) -> bool:
    named = _trace_id(span.trace_id) and _span_id(span.span_id)
    return bool(named) and 0 < span.start_time_unix_nano < _YEAR_2200_NS and span.end_time_unix_nano < _YEAR_2200_NS


def _trace_id(raw: bytes) -> str | None:
    """In hexadecimal; None for what names nothing: of another length, or all zeros (W3C Trace Context, 3.2.2)."""
    return raw.hex() if len(raw) == 16 and any(raw) else None


def _span_id(raw: bytes) -> str | None:
    return raw.hex() if len(raw) == 8 and any(raw) else None


def _correlation(span: Span) -> str | None:
    correlation = span.attributes.get(CORRELATION)
    return correlation[:128] if isinstance(correlation, str) and correlation else None


def _span(span: trace_pb2.Span) -> Span:
    started_ns = span.start_time_unix_nano
    return Span(
        span_id=span.span_id.hex(),
        parent_id=_span_id(span.parent_span_id),
        name=kept_name(_text(span.name)),
        kind=_word(_KINDS, span.kind),
        started_ns=started_ns,
        # A clock that was set back during the span would make it negative.
        duration_ns=max(0, span.end_time_unix_nano - started_ns),
        status=_word(_STATUSES, span.status.code),
        attributes=kept_attributes(_pairs(span.attributes)),
        links=list(_links(span)) if span.links else [],
        events=list(_events(span)) if span.events else [],
    )


def _word(words: Sequence[str], number: int) -> str:
    """The word for a number, the first for one we do not know: enumerations of proto3 take any, negative ones too."""
    return words[number] if 0 <= number < len(words) else words[0]


def _links(span: trace_pb2.Span) -> Iterator[dict[str, str]]:
    for link in span.links:
        trace_id, span_id = _trace_id(link.trace_id), _span_id(link.span_id)
        if trace_id and span_id:
            yield {"trace_id": trace_id, "span_id": span_id}


def _events(span: trace_pb2.Span) -> Iterator[dict[str, Any]]:
    """What happened during the span, in milliseconds after its start: the first of it, should it be much."""
    for event in span.events[:_MAX_EVENTS]:
        after_ns = max(0, event.time_unix_nano - span.start_time_unix_nano)
        yield {
            "name": kept_name(_text(event.name)),
            "after_ms": round(after_ns / 1e6, 3),
            "attributes": kept_attributes(_pairs(event.attributes)),
        }


def _service(attributes: Iterable[KeyValue]) -> str:
    names = (pair.value.string_value for pair in attributes if pair.key == "service.name")
    return _text(next(names, "") or "unknown")[:128]


def _pairs(attributes: Iterable[KeyValue], depth: int = 0) -> dict[str, Any]:
    return {_text(pair.key): _value(pair.value, depth) for pair in attributes}


def _value(value: AnyValue, depth: int) -> Any:
    if text := value.string_value:  # which nearly all are
        return _text(text)
    kind = value.WhichOneof("value")
    plain = getattr(value, kind) if kind else None
    match kind:
        case "double_value" if not math.isfinite(value.double_value):
            return str(value.double_value)  # JSON has no word for it
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value":
            return [_value(item, depth + 1) for item in value.array_value.values] if depth < _MAX_DEPTH else None
        case "kvlist_value":
            return _pairs(value.kvlist_value.values, depth + 1) if depth < _MAX_DEPTH else None
        case _:
            return plain


def _text(value: str) -> str:
    """PostgreSQL stores no U+0000."""
    return value.replace("\0", "") if "\0" in value else value
