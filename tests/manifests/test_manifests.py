"""The manifests: what can be known of them without a cluster."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from deploy.k8s import await_schema
from deploy.local.credentials import Secrets
from deploy.local.external import External
from deploy.local.ports import SERVICES, Ports
from deploy.local.specs import Process
from deploy.local.state import ROOT, StateDir
from deploy.local.topology import SEEDED, Site
from reliability import server
from reliability.settings import ServiceSettings
from services.gateway.render import render
from tests.manifests.support import Cluster, Object, build, matches

KUBERNETES = "1.37"
PRIVATE = {"DATABASE_URL", "REDIS_URL", "MAIL_URL", "MIGRATION_DATABASE_URL"}  # may hold a password


@dataclass(frozen=True)
class Main:
    """What a service's `__main__` hands to the library."""

    settings: type[ServiceSettings]
    migrations: Path
    parts: tuple[str, ...]


@pytest.fixture
def main_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Object], Main]:
    """Runs the module that a container's command names, up to where the library would take over."""
    kept: dict[str, Any] = {}

    def capture(_name: str, settings: type[ServiceSettings], _build: object, **keywords: Any) -> None:
        kept.update(settings=settings, migrations=keywords["migrations"], parts=keywords["parts"])

    monkeypatch.setattr(server, "main", capture)

    def give(container: Object) -> Main:
        python, flag, module, _ = container["command"]
        assert (python, flag) == ("python", "-m")
        runpy.run_module(module, run_name="__main__")
        return Main(**kept)

    return give


def service_container(cluster: Cluster, service: str) -> Object:
    """The one container of a service's pods."""
    (container,) = cluster.pod("Deployment", service)["containers"]
    assert container["command"][3] == "serve"
    found: Object = container
    return found


def certificate(cluster: Cluster, service: str) -> x509.Certificate:
    """What a service shows to others."""
    return x509.load_pem_x509_certificate(cluster.data("Secret", f"{service}-tls")["tls.crt"].encode())


# --- as Kubernetes reads them


@pytest.mark.parametrize("folder", ["base", "overlays/dev"])
def test_every_object_is_valid(folder: str) -> None:
    """No unknown field, no wrong type, no name twice."""
    objects = build(folder)
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names)) > 40


def test_secrets_are_valid(cluster: Cluster) -> None:
    """What is applied beside the overlay is valid too, and goes where the overlay goes."""
    namespaces = {each["metadata"].get("namespace") for each in cluster.objects if each["kind"] != "Namespace"}
    assert namespaces == {next(cluster.of("Namespace"))["metadata"]["name"]}
    for each in cluster.of("Secret"):
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_every_reference_is_to_something_there(cluster: Cluster) -> None:
    """Accounts, ConfigMaps, Secrets, their keys and volumes: a typing error here is a pod that never starts."""
    for _, template in cluster.pods():
        pod = template["spec"]
        if account := pod.get("serviceAccountName"):
            cluster.get("ServiceAccount", account)
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            cluster.environment(container)
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for secret in (volume["secret"] for volume in volumes.values() if "secret" in volume):
            keys = cluster.data("Secret", secret["secretName"])
            assert {item["key"] for item in secret.get("items", [])} <= set(keys)
            assert secret["defaultMode"] == 0o440


def test_every_mount_has_a_volume(cluster: Cluster) -> None:
    """And no volume lies about unused."""
    claims = {"StatefulSet postgres": {"data"}}
    for name, template in cluster.pods():
        pod = template["spec"]
        containers = (*pod["containers"], *pod.get("initContainers", []))
        mounts = {mount["name"] for each in containers for mount in each.get("volumeMounts", [])}
        assert mounts == {volume["name"] for volume in pod["volumes"]} | claims.get(name, set()), name


def test_a_selector_finds_its_own_pods_and_nobody_elses(cluster: Cluster) -> None:
    """A Service that also chose the pods of a migration would send requests to it."""
    labels = {name: template["metadata"]["labels"] for name, template in cluster.pods()}
    for each in cluster.of("Deployment", "StatefulSet"):
        own = f"{each['kind']} {each['metadata']['name']}"
        assert [name for name in labels if matches(each["spec"]["selector"]["matchLabels"], labels[name])] == [own]
    for each in cluster.of("Service"):
        chosen = [name for name in labels if matches(each["spec"]["selector"], labels[name])]
        assert len(chosen) == 1, each["metadata"]["name"]
        kind, name = chosen[0].split()
        assert kind != "Job"
        ports = {port["name"] for each in cluster.pod(kind, name)["containers"] for port in each["ports"]}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
    for each in cluster.of("PodDisruptionBudget"):
        own = f"Deployment {each['metadata']['name']}"
        assert [name for name in labels if matches(each["spec"]["selector"]["matchLabels"], labels[name])] == [own]


def test_only_the_gateway_may_speak_http_to_the_services(cluster: Cluster) -> None:
    """They believe what it says about the client; admin also takes everybody's spans."""
    labels = {name.split()[1]: template["metadata"]["labels"] for name, template in cluster.pods()}
    servers, gateway, everybody = set(SERVICES), {"gateway"}, set(labels)
    allowed: dict[str, dict[str, set[str]]] = {name: {"http": set(), "grpc": set()} for name in SERVICES}
    for policy in cluster.of("NetworkPolicy"):
        targets = {name for name in labels if matches(policy["spec"]["podSelector"]["matchLabels"], labels[name])}
        assert targets <= servers
        for rule in policy["spec"]["ingress"]:
            for peer in rule["from"]:
                selector = peer["podSelector"]["matchLabels"]
                callers = {name for name in labels if matches(selector, labels[name])}
                for target in targets:
                    for port in rule["ports"]:
                        allowed[target][port["port"]] |= callers
    for service in SERVICES:
        assert allowed[service] == {"http": everybody if service == "admin" else gateway, "grpc": servers}


# --- what a service is made of


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_whole(cluster: Cluster, service: str) -> None:
    """Deployment, both Services, account, budget, migration, probes; and time to finish what it holds."""
    pod = cluster.pod("Deployment", service)
    container = service_container(cluster, service)
    for name, port in ((service, "http"), (f"{service}-grpc", "grpc")):
        spec = cluster.get("Service", name)["spec"]
        assert spec["clusterIP"] == "None"
        assert [each["name"] for each in spec["ports"]] == [port]
    cluster.get("PodDisruptionBudget", service)
    cluster.get("Job", f"{service}-migrate")
    account = cluster.get("ServiceAccount", pod["serviceAccountName"])
    assert account["metadata"]["name"] == service
    assert account["automountServiceAccountToken"] is False
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    # Worker, calls and requests are drained one after the other.
    environment = cluster.environment(container)
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"] + 3 * float(environment["DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > waits
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"http": environment["HTTP_PORT"], "grpc": environment["GRPC_PORT"]}


@pytest.mark.parametrize("service", SERVICES)
def test_the_environment_is_what_the_service_reads(
    cluster: Cluster,
    service: str,
    main_of: Callable[[Object], Main],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Its settings load from exactly what a container would get: nothing missing, wrong, or unknown."""
    container = service_container(cluster, service)
    settings = main_of(container).settings
    read = {name.upper() for name in settings.model_fields}
    environment = cluster.environment(container)
    assert set(environment) <= read
    assert {name.upper() for name, each in settings.model_fields.items() if each.is_required()} <= set(environment)
    cluster.mount(cluster.pod("Deployment", service), container, tmp_path)
    for name in read:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, f"{tmp_path}{value}" if name.endswith("_FILE") else value)
    loaded = settings()  # type: ignore[call-arg]
    assert loaded.host == "0.0.0.0"
    assert all(file.is_file() for file in (loaded.tls_ca_file, loaded.tls_cert_file, loaded.tls_key_file))


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_local_system_tells_a_service_the_cluster_tells_it_too(
    cluster: Cluster, service: str, main_of: Callable[[Object], Main], tmp_path: Path
) -> None:
    """deploy/local/topology.py is the truth about who is told what."""
    container = service_container(cluster, service)
    read = {name.upper() for name in main_of(container).settings.model_fields}
    site = Site(StateDir(tmp_path), Ports(), Secrets(), External(), {})
    (process,) = (step for step in site.plan() if isinstance(step, Process) and step.name == service)
    assert set(process.command.environment) & read <= set(cluster.environment(container))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_waits_for_its_own_migrations(
    cluster: Cluster, service: str, main_of: Callable[[Object], Main]
) -> None:
    """It waits for just those that its migration Job applies."""
    main = main_of(service_container(cluster, service))
    (waiting,) = cluster.pod("Deployment", service)["initContainers"]
    (migrating,) = cluster.pod("Job", f"{service}-migrate")["containers"]
    assert waiting["command"] == ["python", "-m", "deploy.k8s.await_schema"]
    assert waiting["args"] == [service, *main.parts]
    assert await_schema.folders(service, list(main.parts))[-1] == main.migrations
    assert migrating["command"] == [*service_container(cluster, service)["command"][:3], "migrate"]
    assert waiting["image"] == migrating["image"] == service_container(cluster, service)["image"]


@pytest.mark.parametrize("service", SEEDED)
def test_what_is_seeded_locally_is_seeded_here(cluster: Cluster, service: str) -> None:
    """By the same module, once the tables are there."""
    pod = cluster.pod("Job", f"{service}-seed")
    assert pod["containers"][0]["command"] == ["python", "-m", f"services.{service}.seed"]
    assert pod["initContainers"][0]["args"] == cluster.pod("Deployment", service)["initContainers"][0]["args"]


# --- who is called by which name


def _addresses(environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Every host and port that is named by a URL."""
    own = {"PUBLIC_URL"}  # the browser's view
    values = [value for name, value in environment.items() if name not in own and "://" in value]
    parts = [urlsplit(value.replace("dns:///", "dns://")) for value in values]
    return [(part.hostname or "", part.port or 0) for part in parts]


def test_every_address_is_a_service_that_listens_there(cluster: Cluster) -> None:
    """In databases, caches, calls between services, mail, spans and webhooks."""
    listening = {
        (each["metadata"]["name"], port["port"]) for each in cluster.of("Service") for port in each["spec"]["ports"]
    }
    named = {
        address
        for _, template in cluster.pods()
        for container in template["spec"]["containers"]
        for address in _addresses(cluster.environment(container))
    }
    assert named <= listening
    assert {host for host, _ in named} >= {"postgres", "valkey", "mailbox", "stripe-sandbox", "gateway", "admin"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_callee_is_called_by_a_name_of_its_certificate(cluster: Cluster, service: str) -> None:
    """A gRPC client compares the name it called with the certificate; a servicer knows its callers by theirs."""
    shown = certificate(cluster, service)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert f"{service}-grpc" in names.get_values_for_type(x509.DNSName)
    assert [each.value for each in shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [service]
    for variable, value in cluster.environment(service_container(cluster, service)).items():
        if variable.endswith("_GRPC"):
            callee = {"PAYMENTS": "payments-webhooks"}.get(variable[:-5], variable[:-5].lower())
            assert value == f"dns:///{callee}-grpc:9090"


# --- what a container may do and see


def test_every_container_is_locked_down(cluster: Cluster) -> None:
    """No root, nothing to write to but its volumes, no capability, no token, no surprise variables."""
    assert next(cluster.of("Namespace"))["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, template in cluster.pods():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            context = {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["securityContext"] == context, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert not container["image"].endswith(":latest"), name


def test_only_a_migration_sees_the_owner_of_the_tables(cluster: Cluster) -> None:
    """What runs as a service may use its tables and not change them."""
    seen: dict[str, set[str]] = {}
    for name, template in cluster.pods():
        pod = template["spec"]
        values: list[str] = []
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            values += cluster.environment(container).values()
        for volume in pod["volumes"]:
            if "secret" in volume:
                values += cluster.data("Secret", volume["secret"]["secretName"]).values()
        seen[name] = {user for value in values for user in re.findall(r"//([a-z_]+):[^@/ ]+@postgres", value)}
    for service in SERVICES:
        role = service.replace("-", "_")
        assert seen[f"Deployment {service}"] == {role}
        assert seen[f"Job {service}-migrate"] == {f"{role}_owner"}
    assert {name for name, users in seen.items() if "postgres" in users} == {"Job databases"}


def test_nothing_private_is_committed(base: Cluster, main_of: Callable[[Object], Main]) -> None:
    """Secrets come by reference only, in the base and in the overlay."""
    fields = [main_of(service_container(base, service)).settings.model_fields for service in SERVICES]
    secret = {
        name.upper()
        for each in fields
        for name, field in each.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
    assert {"CART_SECRET", "STRIPE_API_KEY", "STAFF_PASSWORD"} <= secret
    assert not [*base.of("Secret")]
    for each in base.of("ConfigMap"):
        assert not set(each["data"]) & (secret | PRIVATE)
    for _, template in base.pods():
        for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", [])):
            literal = {each["name"] for each in container.get("env", []) if "value" in each}
            assert not literal & (secret | PRIVATE)
    folder = ROOT / "deploy" / "k8s"
    texts = {path: path.read_text() for suffix in ("*.yaml", "*.env") for path in folder.rglob(suffix)}
    private = re.compile(r"PRIVATE KEY|sk_(test|live)_|whsec_|postgres(ql)?://|redis://|secretGenerator")
    assert [str(path) for path, text in texts.items() if private.search(text)] == []
    assert len(texts) > 30


# --- the gateway


def test_the_gateway_is_configured_by_its_own_template(cluster: Cluster, tmp_path: Path) -> None:
    """The environment fills the template, every cluster in it is a Service, and Envoy takes it with these flags."""
    pod = cluster.pod("Deployment", "gateway")
    (renders,), (envoy,) = pod["initContainers"], pod["containers"]
    environment = cluster.environment(renders)
    text = render(environment)
    configuration = yaml.safe_load(text)
    listening = {
        (each["metadata"]["name"], port["port"]) for each in cluster.of("Service") for port in each["spec"]["ports"]
    }
    hosts = {}
    for upstream in configuration["static_resources"]["clusters"]:
        ((endpoint,),) = (each["lb_endpoints"] for each in upstream["load_assignment"]["endpoints"])
        address = endpoint["endpoint"]["address"]["socket_address"]
        hosts[upstream["name"]] = (address["address"], address["port_value"])
    assert set(hosts.values()) <= listening
    assert {name: host for name, (host, _) in hosts.items()} == {
        **{name: name for name in SERVICES},
        "telemetry": "admin",
    }
    assert envoy["ports"] == [{"name": "http", "containerPort": int(environment["GATEWAY_PORT"])}]
    for probe in (envoy["startupProbe"], envoy["readinessProbe"]):
        assert f"127.0.0.1:{environment['ADMIN_PORT']}/ready" in probe["exec"]["command"][2]

    output = renders["command"][2].split("> ")[1]
    program, *arguments = envoy["command"]
    assert program == "envoy"
    assert arguments[:2] == ["-c", output]
    whole = tmp_path / "envoy.yaml"
    whole.write_text(text)
    command = [str(Path(sys.executable).parent / "envoy"), "-c", str(whole), *arguments[2:], "--mode", "validate"]
    accepted = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": "/"})
    assert accepted.returncode == 0, accepted.stderr
