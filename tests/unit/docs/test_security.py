"""The threat model says nothing that is not tested."""

import ast
import re
from functools import cache

import pytest

from deploy.local.state import ROOT

DOCUMENT = ROOT / "docs" / "security.md"
_TEST = re.compile(r"`([\w/.]+\.py)::(test_\w+)`")
_FILE = re.compile(r"`((?:deploy|docs|services|libs|tools)/[\w/.-]+)`")


def threats() -> list[tuple[str, str, str]]:
    """Threat, where it is stopped, its tests."""
    section = DOCUMENT.read_text().partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [(threat, stopped, tests) for threat, stopped, tests in rows[1:]]


@cache
def names_in(path: str) -> frozenset[str]:
    """The tests in a file."""
    tree = ast.parse((ROOT / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_there_are_threats() -> None:
    """The table is read as it is written."""
    assert len(threats()) > 30
    assert all(stopped for _, stopped, _ in threats())


@pytest.mark.parametrize(("threat", "tests"), [(threat, tests) for threat, _, tests in threats()])
def test_each_threat_names_tests_that_exist(threat: str, tests: str) -> None:
    """A renamed test is renamed in the table too."""
    named = _TEST.findall(tests)
    assert named, threat
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_each_file_it_names_exists() -> None:
    """A rule file that moved is named where it is now."""
    assert [name for name in _FILE.findall(DOCUMENT.read_text()) if not (ROOT / name).exists()] == []
