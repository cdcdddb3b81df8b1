"""python -m deploy.k8s.dev_secrets | kubectl apply -f -: the Secrets of a development cluster.

Made by the same code as those of `make up`, random, and kept in `.local/k8s`, so that printing them again changes
nothing but certificates about to expire. Nothing of them is committed. A real cluster brings its own, by the
same names and keys.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.local.certificates import CA_FILE, SCHEDULER_KEYS, ensure_credentials
from deploy.local.credentials import STAFF_EMAIL, Secrets, load_secrets
from deploy.local.databases import database_of, database_url, owner_of, runtime_role_of
from deploy.local.ports import SERVICES
from deploy.local.state import ROOT, StateDir

__all__ = ["NAMESPACE", "manifests"]

NAMESPACE = "holdfast-dev"
_MAILBOX = "smtp://mailbox:1025"


def manifests(state: StateDir) -> list[dict[str, Any]]:
    """Every Secret that the overlay `dev` refers to, from a state directory; what is missing there is made."""
    state.create()
    ensure_credentials(state.tls)
    secrets = load_secrets(state)
    # The dev image is not built with TLS, and the pods are alone with it in their namespace.
    server = f"postgresql://postgres:{secrets.postgres_password}@postgres:5432/postgres?sslmode=disable"
    return [
        *(_secret(name, values) for name, values in _shared(state, secrets, server).items()),
        *(each for service in SERVICES for each in _of_service(service, state, secrets, server)),
    ]


def _shared(state: StateDir, secrets: Secrets, server: str) -> dict[str, dict[str, str]]:
    return {
        "postgres": {"password": secrets.postgres_password},
        "databases": {"SERVER_URL": server, "secrets.json": json.dumps(asdict(secrets))},
        "valkey": {"valkey.conf": f'port 6379\nrequirepass {secrets.redis_password}\nsave ""\nappendonly no\n'},
        "redis": {"REDIS_URL": f"redis://:{secrets.redis_password}@valkey:6379/0"},
        "machine-issuers": {SCHEDULER_KEYS: (state.tls / SCHEDULER_KEYS).read_text()},
        "accounts-signing-key": {"signing.key": (state.tls / "signing.key").read_text()},
    }


def _of_service(service: str, state: StateDir, secrets: Secrets, server: str) -> Iterator[dict[str, Any]]:
    database, runtime, owner = database_of(service), runtime_role_of(service), owner_of(service)
    runs_as = database_url(server, database, runtime, secrets.runtime_passwords[service])
    migrates_as = database_url(server, database, owner, secrets.owner_passwords[service])
    yield _secret(service, {"DATABASE_URL": runs_as, **_own(service, secrets)})
    yield _secret(f"{service}-migration", {"MIGRATION_DATABASE_URL": migrates_as})
    # The keys that cert-manager writes.
    files = {"ca.crt": CA_FILE, "tls.crt": f"{service}.pem", "tls.key": f"{service}.key"}
    tls = {key: (state.tls / file).read_text() for key, file in files.items()}
    yield _secret(f"{service}-tls", tls, "kubernetes.io/tls")


def _own(service: str, secrets: Secrets) -> dict[str, str]:
    match service:
        case "orders":
            return {"CART_SECRET": secrets.cart_secret}
        case "payments-webhooks":
            return {"STRIPE_API_KEY": secrets.stripe_api_key, "STRIPE_WEBHOOK_SECRET": secrets.stripe_webhook_secret}
        case "notifications":
            return {"MAIL_URL": _MAILBOX, "LINK_SECRET": secrets.link_secret}
        case "accounts":
            return {
                "ACCOUNTS_SECRET": secrets.accounts_secret,
                "STAFF_EMAIL": STAFF_EMAIL,
                "STAFF_PASSWORD": secrets.staff_password,
            }
        case _:
            return {}


def _secret(name: str, values: Mapping[str, str], kind: str = "Opaque") -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "holdfast"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": dict(values)}


def main() -> None:
    """Prints them as YAML documents (JSON is YAML)."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s.dev_secrets")
    parser.add_argument("--state", type=Path, default=ROOT / ".local" / "k8s", help="where they are kept")
    for manifest in manifests(StateDir(parser.parse_args().state)):
        sys.stdout.write(f"---\n{json.dumps(manifest)}\n")


if __name__ == "__main__":
    main()
