"""The alert rules watch what is really counted, under labels it really has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "deploy" / "alerts").glob("*.yaml"))
SUFFIX = {"counter": "_total", "observable_counter": "_total", "gauge": "", "observable_gauge": "", "histogram": ""}
_NAME = re.compile(r"\b(?:holdfast|reliability)_\w+")


def rules() -> list[dict[str, Any]]:
    return [rule for file in FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def _calls() -> Iterator[tuple[str, str, str]]:
    """Every instrument that is made: kind, name, unit."""
    for folder in ("services", "libs/reliability/src"):
        for source in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text())):
                if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                    continue
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                kind = {"Tally": "counter", "Timing": "histogram"}.get(called) or called.removeprefix("create_")
                if kind in SUFFIX:
                    units = [str(word.value.value) for word in node.keywords if word.arg == "unit"]  # type: ignore[attr-defined]
                    yield kind, str(node.args[0].value), "s" if called == "Timing" else "".join(units)


def exported() -> set[str]:
    """The names Prometheus sees, as the exporter makes them of ours."""
    names = set()
    for kind, name, unit in _calls():
        base = name.replace(".", "_") + ("_seconds" if unit == "s" else "") + SUFFIX[kind]
        names |= {f"{base}_bucket", f"{base}_count", f"{base}_sum"} if kind == "histogram" else {base}
    return names


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule.get("record"))
def test_every_rule_is_about_metrics_that_exist(rule: dict[str, Any]) -> None:
    """A rule on a name nobody exports never fires, and nobody would notice."""
    used = set(_NAME.findall(rule["expr"]))
    assert used
    assert used - exported() == set()


@pytest.mark.parametrize("rule", [rule for rule in rules() if "alert" in rule], ids=lambda rule: rule["alert"])
def test_who_is_alerted_is_told_what_to_do(rule: dict[str, Any]) -> None:
    """How bad it is, what is wrong, and where to look."""
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


def test_what_was_promised_to_be_watched_is() -> None:
    """The list of the design; names are unique."""
    names = [rule["alert"] for rule in rules() if "alert" in rule]
    assert len(names) == len(set(names))
    promised = {
        "MailRetriesFail",
        "MailQueueOld",
        "ScheduleMissed",
        "PaymentsDrift",
        "WebhookParked",
        "RateLimitBypass",
        "ForgedForwardingHeaders",
        "BreakerOpen",
        "PromiseBroken",
        "JobsWaitTooLong",
    }
    assert promised <= set(names)


def test_values_of_labels_are_spelled_as_the_exporter_spells_them() -> None:
    """`retried` is a truth value: what the exporter makes of it is what the rules say."""
    provider = MeterProvider([PrometheusMetricReader()])
    try:
        meter = provider.get_meter("test")
        meter.create_counter("spelling.of.truth").add(1, {"retried": True})
        meter.create_gauge("spelling.of.age", unit="s").set(1)
        meter.create_histogram("spelling.of.time", unit="s").record(1)
        text = generate_latest(REGISTRY).decode()
    finally:
        provider.shutdown()
    (line,) = [line for line in text.splitlines() if line.startswith("spelling_of_truth_total")]
    (spelled,) = re.findall(r'retried="(\w+)"', line)
    said = {value for rule in rules() for value in re.findall(r'retried="(\w+)"', rule["expr"])}
    assert said == {spelled}
    assert "spelling_of_age_seconds{" in text
    assert "spelling_of_time_seconds_bucket{" in text
