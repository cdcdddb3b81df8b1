"""What is counted in a dictionary is read with the metrics, and nothing is lost between two readings."""

import json
from io import StringIO
from typing import Any

import pytest
import structlog
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from reliability.logging import get_logger, setup_logging
from reliability.tally import Tally


def test_every_count_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cumulative, by attributes, as a counter that was told each event would be."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    tally = Tally("clicks", "Clicks", ["outcome"])
    for expected in ({"allowed": 2, "blocked": 1}, {"allowed": 4, "blocked": 2}):
        for outcome in ("allowed", "blocked", "allowed"):
            tally.add(outcome)
        data: Any = reader.get_metrics_data()
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        assert metric.data.is_monotonic
        assert {point.attributes["outcome"]: point.value for point in metric.data.data_points} == expected


def test_a_line_is_json_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers beyond 64 bits, objects, exceptions; secrets stay out, as does what is below the level."""
    out = StringIO()
    monkeypatch.setattr("sys.stdout", out)
    before = structlog.get_config()
    try:
        setup_logging("shop", "info")
        log = get_logger("test")
        log.debug("quiet")
        log.info("event", size=2**80, thing=StringIO, nested={"password": "hunter2", "list": [{"api_key": "k"}]})
        try:
            raise ZeroDivisionError("oops")
        except ZeroDivisionError:
            log.exception("failed", token="t")
    finally:
        structlog.configure(**before)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["event"], first["level"], first["service"], first["size"]) == ("event", "info", "shop", 2**80)
    assert first["nested"] == {"password": "[redacted]", "list": [{"api_key": "[redacted]"}]}
    assert (second["level"], second["token"]) == ("error", "[redacted]")
    assert "ZeroDivisionError: oops" in second["exception"]
