"""Each part can be imported with just the packages of its extra installed."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1]
PARTS = {
    (): (
        "bulkhead",
        "cancellation",
        "circuit_breaker",
        "context",
        "crash_points",
        "deadline",
        "errors",
        "fingerprint",
        "logging",
        "retry",
        "telemetry",
        "testing",
    ),
    ("redis",): ("redis", "dedup", "rate_limit"),
    ("postgres",): ("postgres", "jobs", "audit", "inbox", "idempotency", "migrations"),
    ("asgi",): ("asgi", "tokens", "machine_tokens", "idempotency"),
    ("asgi", "redis"): ("revocation",),
    ("grpc",): ("rpc",),
    ("http",): ("http",),
    ("telemetry",): ("exporting", "otlp"),
    ("server",): ("server", "runtime", "health", "settings"),
}
# Without the packages named in the first argument, import the modules named in the others.
IMPORT = """
import importlib, importlib.abc, json, sys

class Absent(importlib.abc.MetaPathFinder):
    names = frozenset(json.loads(sys.argv[1]))

    def find_spec(self, name, path=None, target=None):
        if name in self.names or name.rpartition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed with this extra", name=name)

sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    importlib.import_module(f"reliability.{name}")
"""


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def installed_with(extras: tuple[str, ...]) -> set[str]:
    """The distributions that pip would install: the project's own requirements, and theirs."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    for extra in extras:
        wanted += [Requirement(line) for line in project["optional-dependencies"][extra]]
    found: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        if requirement.name == project["name"]:
            own = project["optional-dependencies"]
            wanted += [Requirement(line) for each in requirement.extras for line in own[each]]
            continue
        for extra in ("", *requirement.extras):
            if (step := (_name(requirement.name), extra)) in found:
                continue
            found.add(step)
            lines = [Requirement(line) for line in requires(requirement.name) or ()]
            wanted += [each for each in lines if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


# Top levels that several distributions share are told apart one step below.
SHARED = {
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
}


@pytest.mark.parametrize(("extras", "modules"), PARTS.items(), ids=lambda value: "+".join(value) or "none")
def test_an_extra_is_enough_for_its_modules(extras: tuple[str, ...], modules: tuple[str, ...]) -> None:
    """And what needs another extra says so by failing to import."""
    there = installed_with(extras)
    absent = [
        name
        for name, distributions in packages_distributions().items()
        if not {_name(each) for each in distributions} & there and name != "reliability"
    ]
    absent += [name for name, distribution in SHARED.items() if distribution not in there]
    assert "pytest" in absent
    assert ("redis" in absent) is not bool({"redis", "server"} & set(extras))
    command = [sys.executable, "-c", IMPORT, json.dumps(absent), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("extra", "modules"),
    [("".join(extras), modules) for extras, modules in PARTS.items() if len(extras) < 2],
    ids=lambda value: value or "none" if isinstance(value, str) else "",
)
def test_an_extra_installs_into_an_empty_environment(extra: str, modules: tuple[str, ...], tmp_path: Path) -> None:
    """As somebody does who has nothing yet: pip builds the library, gets what it names, and the modules import."""
    python = tmp_path / "bin" / "python"
    source = f"{PROJECT}[{extra}]" if extra else str(PROJECT)
    imports = ";".join(f"import reliability.{module}" for module in modules)
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", source], check=True)
    subprocess.run([python, "-I", "-c", imports], check=True, cwd=tmp_path)


def test_a_part_needs_its_extra() -> None:
    """Otherwise the tests above would say nothing."""
    command = [sys.executable, "-c", IMPORT, json.dumps(["asyncpg"]), "postgres"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "asyncpg is not installed with this extra" in done.stderr
