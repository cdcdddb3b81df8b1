"""Log lines: JSON, each with the ids it belongs to, and none with a secret."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from reliability.context import correlation_scope, request_id
from reliability.logging import get_logger, setup_logging


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Logging as it was, afterwards."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**configured)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was written."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_carries_what_it_belongs_to(capsys: pytest.CaptureFixture[str]) -> None:
    """Of structlog and of the standard library alike; outside of a flow there is nothing to carry."""
    setup_logging("shop")
    get_logger("a").info("outside")
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    token = request_id.set("request-1")
    with correlation_scope("flow-1"), trace.use_span(span):
        get_logger("a").info("inside", order=1)
        logging.getLogger("b").warning("also %s", "inside")
    request_id.reset(token)
    outside, inside, also = lines(capsys)
    assert not {"correlation_id", "request_id", "trace_id"} & set(outside)
    for line in (inside, also):
        assert (line["service"], line["correlation_id"], line["request_id"]) == ("shop", "flow-1", "request-1")
        assert (line["trace_id"], line["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert (inside["event"], inside["order"], inside["level"]) == ("inside", 1, "info")
    assert (also["event"], also["level"]) == ("also inside", "warning")


def test_what_is_called_a_secret_is_not_written_at_any_depth(capsys: pytest.CaptureFixture[str]) -> None:
    """The net below not logging it."""
    setup_logging("shop")
    get_logger("a").info("x", Authorization="swordfish", form={"fields": [{"card_number": "swordfish", "name": "n"}]})
    (line,) = lines(capsys)
    assert line["Authorization"] == "[redacted]"
    assert line["form"] == {"fields": [{"card_number": "[redacted]", "name": "n"}]}


def test_levels_and_styles(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the level nothing is written; an exception comes with its traceback; the console is for people."""
    setup_logging("shop", "warning")
    get_logger("a").info("quiet")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        get_logger("a").exception("loud")
    (line,) = lines(capsys)
    assert "ZeroDivisionError" in line["exception"]
    setup_logging("shop", style="console")
    get_logger("a").info("hello")
    assert "hello" in capsys.readouterr().out
