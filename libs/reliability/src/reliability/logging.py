"""JSON log lines, each with the correlation, request, trace and span id it belongs to."""

import functools
import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from opentelemetry import trace

from reliability.context import correlation_id, request_id
from reliability.frugal import without

with without("rich"):  # 4 MiB of every process, for tracebacks in colours
    import structlog

__all__ = ["get_logger", "setup_logging"]

_SECRET_WORDS = ("password", "secret", "token", "authorization", "cookie", "api_key", "card")
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})

Event = MutableMapping[str, Any]


def _redact(event: Event) -> None:
    """Secrets are kept out by not logging them; this is the net below."""
    for key, value in event.items():
        if type(value) not in _PLAIN or _secret(key):
            event[key] = _clean(key, value)


def _place(event: Event) -> None:
    """When it was, and to what it belongs."""
    event["timestamp"] = datetime.now(UTC)
    if correlation := correlation_id():
        event["correlation_id"] = correlation
    if request := request_id.get():
        event["request_id"] = request
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = f"{span.trace_id:032x}"
        event["span_id"] = f"{span.span_id:016x}"


@functools.lru_cache(maxsize=1024)
def _secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET_WORDS)


def _clean(key: object, value: Any) -> Any:
    """The value, or at any depth of mappings and lists what of it may be seen."""
    if _secret(str(key)):
        return "[redacted]"
    match value:
        case Mapping():
            return {name: _clean(name, item) for name, item in value.items()}
        case list():
            return [_clean("", item) for item in value]
        case _:
            return value


def _dump(event: Event, default: Callable[[Any], Any]) -> str:
    try:
        return orjson.dumps(event, default=default, option=orjson.OPT_UTC_Z).decode()
    except TypeError:  # numbers beyond 64 bits, keys that are no texts
        event["timestamp"] = event["timestamp"].isoformat()
        return json.dumps(event, default=default, skipkeys=True)


def setup_logging(service: str, level: str = "info", style: str = "json") -> None:
    """Sends structlog's and the standard library's records to stdout, one line each.

    `style` is `json` or `console`. Ours are written as they are rendered: a record of the standard library around
    each would cost twice as much as the line itself.
    """

    def complete(_logger: object, level: str, event: Event) -> Event:
        # One step for all: going from step to step cost as much as some of them.
        _redact(event)
        event["level"], event["service"] = level, service
        _place(event)
        return event

    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(_dump) if style == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[complete, structlog.processors.format_exc_info, last],
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[complete],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn.access", "httpx", "httpcore", "stripe", "asyncio", "aiosmtpd", "mail.log"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of a module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
