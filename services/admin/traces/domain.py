"""What is kept of a span, and what must not be."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

__all__ = ["Batch", "Cursor", "Span", "StoredSpan", "TraceSummary", "is_trace_id", "kept_attributes", "kept_name"]

_SECRET: Final = re.compile(
    r"passw|secret|token|authori[sz]ation|cookie|credential|signature|session[ ._-]?id|(api|private|access)[ ._-]?key"
    r"|(?<!dis)(?<!wild)card(?!inal)|cvc|cvv"
    # What an exception says may quote anything; its type is told apart.
    r"|^exception\.(message|stacktrace)$",
    re.IGNORECASE,
)
_MAX_TEXT: Final = 2048
_MAX_NAME: Final = 256
# Checkout tokens travel in the query, unsubscribe tokens in the path.
_QUERY: Final = re.compile(r"\?[^\s#]*")
_TOKEN_PATH: Final = re.compile(r"(/unsubscribe/)[^/?#\s]+")


def is_trace_id(text: str) -> bool:
    """Whether the text can name a trace (W3C Trace Context, section 3.2.2.3)."""
    return re.fullmatch("[0-9a-f]{32}", text) is not None


class Span(NamedTuple):
    """A span as it is stored: the view `spans` knows its places. Times are in nanoseconds, `started_ns` since 1970."""

    span_id: str
    parent_id: str | None
    name: str
    kind: str
    started_ns: int
    duration_ns: int
    status: str
    attributes: Mapping[str, Any]
    links: Sequence[Mapping[str, str]]
    events: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one export says of one trace, by one service, under one correlation id."""

    trace_id: str
    service: str
    correlation_id: str | None
    spans: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """A span as it is read."""

    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: str
    started_at: datetime
    duration_ns: int
    status: str
    attributes: Mapping[str, Any]
    links: Sequence[Mapping[str, str]]
    events: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """A trace in a list. `status` is error when any of its spans failed."""

    trace_id: str
    root: str
    service: str
    started_at: datetime
    duration_ms: float
    status: str
    span_count: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page of traces ended."""

    started_at: datetime
    trace_id: str

    def encode(self) -> str:
        """Opaque to clients."""
        return base64.urlsafe_b64encode(f"{self.started_at.isoformat()} {self.trace_id}".encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises `ValueError` for anything we did not encode."""
        try:
            started_at, trace_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ")
            instant = datetime.fromisoformat(started_at)
        except (binascii.Error, UnicodeError) as error:
            raise ValueError("not a cursor") from error
        # We write UTC. In another zone the first and last day of all have instants that cannot be converted.
        if instant.utcoffset() != timedelta(0) or not is_trace_id(trace_id):
            raise ValueError("not a cursor")
        return cls(instant, trace_id)


def kept_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes without those whose names look like secrets, and values without what may hold one."""
    # Looked at before it is cut: the end of a long name may be what tells.
    return {name[:_MAX_NAME]: _kept(value) for name, value in attributes.items() if not _is_secret(name)}


def kept_name(name: str) -> str:
    """The name of a span; a careless one is a whole address, with what an address may hold."""
    return _without_tokens(name)[:_MAX_NAME]


def _is_secret(name: str) -> bool:
    """The same few names come with every span; the long ones are nobody's of ours, and would fill the memory."""
    return _known_secret(name) if len(name) <= _MAX_NAME else _SECRET.search(name) is not None


@lru_cache(maxsize=1024)
def _known_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _without_tokens(text: str) -> str:
    if "?" in text:
        text = _QUERY.sub("", text)
    return _TOKEN_PATH.sub(r"\1-", text) if "/unsubscribe/" in text else text


def _kept(value: Any) -> Any:
    match value:
        case str():
            return _without_tokens(value)[:_MAX_TEXT]
        case list():
            return [_kept(item) for item in value]
        case dict():
            return kept_attributes(value)
        case _:
            return value
