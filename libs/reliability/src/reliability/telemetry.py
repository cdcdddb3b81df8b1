"""Spans as the rest of the library makes and links them; `exporting` sends them somewhere.

Needs OpenTelemetry's API only, which does nothing until somebody sets up an SDK.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

from reliability.context import bind_correlation_id, correlation_id, sanitise_correlation_id
from reliability.errors import ControlFlow, Problem

__all__ = [
    "TRACER",
    "adopt_correlation",
    "carrier",
    "link_to",
    "mark_error",
    "span",
    "untraced",
]

TRACER: Final = "reliability"
"""Whose spans these are: the name of their instrumentation scope."""
_tracer = trace.get_tracer(TRACER)


class _Span:
    """The span of a block: by hand, for OpenTelemetry's own takes three generators to say the same."""

    __slots__ = ("_span", "_token")

    def __init__(self, started: trace.Span) -> None:
        self._span = started

    def __enter__(self) -> trace.Span:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            mark_error(self._span, error)
        context.detach(self._token)
        self._span.end()


def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    parent: Mapping[str, str] | None = None,
    links: list[Link] | None = None,
    **attributes: Any,
) -> AbstractContextManager[trace.Span]:
    """A span around the block. `parent` are W3C trace headers of a remote parent.

    It starts with this call, and has the correlation id of the context. A `Problem` below 500 is an answer, not an
    error of the span; anything else that is raised marks it. Attribute names use `_` for `.`.
    """
    named = {key.replace("_", "."): value for key, value in attributes.items()}
    if flow := correlation_id():
        named["correlation.id"] = flow
    return _Span(
        _tracer.start_span(
            name,
            context=propagate.extract(parent) if parent is not None else None,
            kind=kind,
            links=links,
            attributes=named,
        )
    )


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
