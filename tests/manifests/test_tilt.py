"""The Tiltfile, run with the functions Tilt would give it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import starlark

from deploy.local.state import ROOT
from tests.manifests.support import WORKLOADS, Cluster

FOLDER = ROOT / "tilt"


class Recorded:
    """What a Tiltfile asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def function(self, name: str) -> Callable[..., str]:
        """A function of Tilt's that only writes down how it was called."""

        def call(*positional: Any, **named: Any) -> str:
            self.calls.append((name, positional, named))
            return name

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The calls of one function."""
        return [(positional, named) for called, positional, named in self.calls if called == name]


def run() -> Recorded:
    """Parses and runs it."""
    recorded = Recorded()
    known = ("docker_build", "k8s_resource", "k8s_yaml", "kustomize", "local", "update_settings")

    def execute(file: Path) -> starlark.FrozenModule:
        module = starlark.Module()
        for name in known:
            module.add_callable(name, recorded.function(name))
        dialect = starlark.Dialect.extended()
        dialect.enable_top_level_stmt = True
        tree = starlark.parse(file.name, file.read_text(), dialect)
        loader = starlark.FileLoader(lambda name: execute(FOLDER / name))
        starlark.eval(module, tree, starlark.Globals.standard(), loader)
        return module.freeze()

    execute(FOLDER / "Tiltfile")
    return recorded


def test_it_builds_just_the_images_of_the_cluster(cluster: Cluster) -> None:
    """From folders that exist; no pod refers to an image of ours that nothing builds."""
    built = {}
    for (image, context), named in run().of("docker_build"):
        built[image] = named["build_args"]["SERVICE"]
        for path in (context, named["dockerfile"], *named["only"]):
            assert (FOLDER / path).exists(), path
    used = set()
    for _, template in cluster.pods():
        containers = (*template["spec"]["containers"], *template["spec"].get("initContainers", []))
        used |= {each["image"].split(":")[0] for each in containers if each["image"].startswith("holdfast/")}
    assert built == {image: image.removeprefix("holdfast/") for image in used}


def test_it_knows_every_workload(cluster: Cluster) -> None:
    """Each is a resource of its own, and waits for resources that exist."""
    resources = {positional[0]: named for positional, named in run().of("k8s_resource")}
    assert set(resources) == {each["metadata"]["name"] for each in cluster.of(*WORKLOADS)}
    for named in resources.values():
        assert set(named.get("resource_deps", [])) <= set(resources)


def test_it_applies_the_overlay_and_its_secrets() -> None:
    """By paths that exist."""
    recorded = run()
    (((overlay,), _),) = recorded.of("kustomize")
    assert (FOLDER / overlay / "kustomization.yaml").is_file()
    (((command,), named),) = recorded.of("local")
    assert command.endswith("-m deploy.k8s.dev_secrets")
    assert named["dir"] == ".."
    assert len(recorded.of("k8s_yaml")) == 2
