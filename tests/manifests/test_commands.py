"""What runs in a cluster beside the services, on a real PostgreSQL."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest

from deploy.k8s import await_schema, provision
from deploy.local.credentials import Secrets
from deploy.local.databases import database_url
from deploy.local.endpoints import Endpoints


class Servers(Protocol):
    """What is used of the root conftest's fixture."""

    endpoints: Endpoints
    secrets: Secrets

    copy: Callable[[str], Awaitable[str]]


async def test_a_schema_is_awaited_until_its_last_migration(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the role the service runs as: it may read what was applied, and needs no more."""
    url = await servers.copy("catalog")
    folders = await_schema.folders("catalog", ["jobs"])
    monkeypatch.setenv("DATABASE_URL", url)
    assert await_schema.is_current(folders)
    superuser = await asyncpg.connect(database_url(servers.endpoints.postgres, url.rpartition("/")[2].split("?")[0]))
    try:
        await superuser.execute(
            "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)"
        )
        assert not await_schema.is_current(folders)
        await superuser.execute("DROP TABLE schema_migrations")
        assert not await_schema.is_current(folders)
    finally:
        await superuser.close()


def test_a_database_that_is_not_there_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address nobody answers at is no schema, and no crash."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:nothing@127.0.0.1:1/nowhere?sslmode=disable")
    assert not await_schema.is_current(await_schema.folders("orders", ["jobs", "idempotency"]))
    with pytest.raises(FileNotFoundError):
        await_schema.folders("orders", ["jobz"])


def test_the_databases_are_made_from_the_secret(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Repeating it on a server that has them is no failure; a server that is away is, so that the Job tries again."""
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps(asdict(servers.secrets)))
    monkeypatch.setenv("SECRETS_FILE", str(file))
    monkeypatch.setenv("SERVER_URL", servers.endpoints.postgres)
    assert provision.main() == 0
    monkeypatch.setenv("SERVER_URL", "postgresql://postgres:wrong@127.0.0.1:1/postgres")
    assert provision.main() == 1
