"""Queries and answers of the trace routes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.admin.traces.domain import Cursor, StoredSpan, TraceSummary

__all__ = ["SpanEvent", "SpanItem", "TraceItem", "TraceList", "TraceQuery", "TraceResponse"]


class TraceQuery(BaseModel):
    """Traces of one flow, of an order, of a customer's newest hundred orders, or the newest of all."""

    model_config = ConfigDict(extra="forbid")

    correlation_id: str | None = Field(default=None, min_length=1, max_length=128)
    order_id: UUID | None = None
    customer_id: UUID | None = None
    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, max_length=200)

    @field_validator("cursor")
    @classmethod
    def _ours(cls, value: str | None) -> str | None:
        if value is not None:
            Cursor.decode(value)
        return value

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(each is not None for each in (self.correlation_id, self.order_id, self.customer_id)) > 1:
            message = "give one of correlation_id, order_id and customer_id"
            raise ValueError(message)
        return self

    @property
    def position(self) -> Cursor | None:
        """Where the page begins."""
        return Cursor.decode(self.cursor) if self.cursor else None


class TraceItem(BaseModel):
    """A trace in a list."""

    trace_id: str
    root: str
    service: str
    started_at: datetime
    duration_ms: float
    status: str
    span_count: int

    @classmethod
    def of(cls, trace: TraceSummary) -> Self:
        """The item for a summary."""
        return cls(
            trace_id=trace.trace_id,
            root=trace.root,
            service=trace.service,
            started_at=trace.started_at,
            duration_ms=round(trace.duration_ms, 3),
            status=trace.status,
            span_count=trace.span_count,
        )


class TraceList(BaseModel):
    """A page of traces, the newest first."""

    items: list[TraceItem]
    next_cursor: str | None


class SpanEvent(BaseModel):
    """Something that happened during a span, `after_ms` milliseconds after it began."""

    name: str
    after_ms: float
    attributes: Mapping[str, Any]


class SpanItem(BaseModel):
    """A span. `links` name spans of other traces it continues; `events` are what happened during it, a retry say."""

    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: str
    start: datetime
    duration_ms: float
    status: str
    attributes: Mapping[str, Any]
    links: Sequence[Mapping[str, str]]
    events: Sequence[SpanEvent]

    @classmethod
    def of(cls, span: StoredSpan) -> Self:
        """The item for a span."""
        return cls(
            span_id=span.span_id,
            parent_id=span.parent_id,
            service=span.service,
            name=span.name,
            kind=span.kind,
            start=span.started_at,
            duration_ms=round(span.duration_ns / 1e6, 3),
            status=span.status,
            attributes=span.attributes,
            links=span.links,
            events=[SpanEvent.model_validate(event) for event in span.events],
        )


class TraceResponse(BaseModel):
    """A whole trace, its spans in the order they started."""

    trace_id: str
    spans: list[SpanItem]
