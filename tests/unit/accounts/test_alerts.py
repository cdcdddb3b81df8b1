"""The rules about abuse watch what is really counted."""

import re

import yaml

from deploy.local.state import ROOT

RULES = ROOT / "deploy" / "alerts" / "abuse.yaml"
_COUNTER = re.compile(r'(?:create_counter|Tally)\(\s*"([a-z._]+)"')


def _exported() -> set[str]:
    """Names as Prometheus sees them."""
    sources = [*(ROOT / "services" / "accounts").rglob("*.py"), *(ROOT / "libs" / "reliability" / "src").rglob("*.py")]
    found = [name for source in sources for name in _COUNTER.findall(source.read_text())]
    return {name.replace(".", "_") + "_total" for name in found}


def test_every_rule_is_about_a_metric_that_exists() -> None:
    """A rule on a name nobody exports never fires, and nobody would notice."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    used = {rule["alert"]: set(re.findall(r"(?:holdfast|reliability)_\w+", rule["expr"])) for rule in group["rules"]}
    exported = _exported()
    assert {alert: names - exported for alert, names in used.items() if names - exported} == {}
    assert all(used.values())
