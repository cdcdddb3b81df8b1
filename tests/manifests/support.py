"""The manifests as kustomize builds them, and a small kubelet that says what a container would see."""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.local.state import ROOT

__all__ = ["WORKLOADS", "Cluster", "Object", "build", "matches"]

Object = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def build(folder: str) -> list[Object]:
    """What `kubectl kustomize` makes of a folder of deploy/k8s."""
    kubectl = Path(sys.executable).parent / "kubectl"
    built = subprocess.run(
        [str(kubectl), "kustomize", str(ROOT / "deploy" / "k8s" / folder)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


class Cluster:
    """Objects, and how they refer to one another."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.objects = list(objects)

    def of(self, *kinds: str) -> Iterator[Object]:
        """All objects of these kinds."""
        return (each for each in self.objects if each["kind"] in kinds)

    def get(self, kind: str, name: str) -> Object:
        """The one object of this kind and name; fails when there is none or another."""
        found = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} objects are {kind} {name}"
        return found[0]

    def pod(self, kind: str, name: str) -> Object:
        """The pod's specification in a workload."""
        spec: Object = self.get(kind, name)["spec"]["template"]["spec"]
        return spec

    def pods(self) -> Iterator[tuple[str, Object]]:
        """Every workload's name and its pod template."""
        for each in self.of(*WORKLOADS):
            yield f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"]

    def data(self, kind: str, name: str) -> Mapping[str, str]:
        """What is in a ConfigMap or a Secret."""
        found = self.get(kind, name)
        values: Mapping[str, str] = found["stringData"] if kind == "Secret" else found["data"]
        return values

    def environment(self, container: Object) -> dict[str, str]:
        """The variables a container would start with. Fails for a reference to something that is not there."""
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            assert set(source) == {"configMapRef"}, "a secret is given key by key, not whole"
            values |= self.data("ConfigMap", source["configMapRef"]["name"])
        for variable in container.get("env", []):
            if (value := self._value(variable)) is not None:
                values[variable["name"]] = value
        return values

    def _value(self, variable: Object) -> str | None:
        if "value" in variable:
            text = variable["value"]
            assert isinstance(text, str)
            return text
        reference = variable["valueFrom"]["secretKeyRef"]
        secret = self.data("Secret", reference["name"])
        return secret.get(reference["key"]) if reference.get("optional") else secret[reference["key"]]

    def mount(self, pod: Object, container: Object, root: Path) -> None:
        """Writes the secret volumes of a container below `root`."""
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if secret := volumes[mount["name"]].get("secret"):
                folder = root / mount["mountPath"].lstrip("/")
                folder.mkdir(parents=True, exist_ok=True)
                for key, text in self.data("Secret", secret["secretName"]).items():
                    (folder / key).write_text(text)


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses these labels."""
    return selector.items() <= labels.items()
