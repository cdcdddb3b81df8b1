"""The rules about money watch what payments really counts."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "alerts" / "payments.yaml"
_INSTRUMENT = re.compile(r'(create_counter|create_gauge|Tally)\(\s*"([a-z._]+)"(, unit="s")?')


def _exported() -> set[str]:
    """Names as Prometheus sees them: a counter ends in `_total`, a unit is appended."""
    sources = (ROOT / "services" / "payments_webhooks").rglob("*.py")
    found = [match for source in sources for match in _INSTRUMENT.findall(source.read_text())]
    return {
        name.replace(".", "_") + ("_seconds" if unit else "") + ("" if kind == "create_gauge" else "_total")
        for kind, name, unit in found
    }


def test_every_rule_is_about_a_metric_that_exists() -> None:
    """A rule on a name nobody exports never fires, and nobody would notice."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    used = {rule["alert"]: set(re.findall(r"holdfast_\w+", rule["expr"])) for rule in group["rules"]}
    exported = _exported()
    assert {alert: names - exported for alert, names in used.items() if names - exported} == {}
    assert all(used.values())
