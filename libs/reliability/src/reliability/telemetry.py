"""Spans as the rest of the library makes and links them; `exporting` sends them somewhere.

Needs OpenTelemetry's API only, which does nothing until somebody sets up an SDK.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

from reliability.context import bind_correlation_id, sanitise_correlation_id
from reliability.errors import ControlFlow, Problem

__all__ = [
    "adopt_correlation",
    "carrier",
    "link_to",
    "mark_error",
    "span",
    "untraced",
]

_tracer = trace.get_tracer("reliability")


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
    """Makes this context and its current span part of a flow that was found out late, by a webhook's job say.

    What is no correlation id changes nothing: it may come from outside, and would go into headers.
    """
    if sanitise_correlation_id(value) != value:
        return
    bind_correlation_id(value)
    trace.get_current_span().set_attribute("correlation.id", value)


@contextmanager
def untraced() -> Iterator[None]:
    """Nothing in the block is recorded: for polling, which would bury the traces of real work."""
    dropped = SpanContext(secrets.randbits(128), secrets.randbits(64), is_remote=False)
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
