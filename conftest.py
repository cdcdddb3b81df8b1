"""Fixtures every suite shares: a real PostgreSQL, a real Valkey, real mutual TLS."""

import asyncio
import itertools
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import grpc.aio
import httpx
import pytest
import pytest_asyncio

from deploy.local.credentials import Secrets, load_secrets
from deploy.local.databases import database_of, database_url, owner_of, runtime_role_of
from deploy.local.ports import HOST, pick_port_base
from deploy.local.system import System
from holdfast.common.v1 import access_pb2
from reliability import rpc
from reliability.asgi import Perimeter
from reliability.health import Readiness
from reliability.jobs import worker
from reliability.migrations import PARTS, migrate
from reliability.postgres import Database
from reliability.redis import Cache
from reliability.retry import full_jitter
from reliability.runtime import Application, Runtime
from reliability.settings import ServiceSettings

# What the suites' helpers assert is told with its values, as in the tests themselves.
pytest.register_assert_rewrite("libs.reliability.tests", "tests")

S = TypeVar("S", bound=ServiceSettings)

_DOOMED = "holdfast-doomed-"

DatabaseFor = Callable[[str], Awaitable[Database]]
ServeRpc = Callable[[Application], Awaitable[Callable[[str], grpc.aio.Channel]]]
ClientFor = Callable[..., httpx.AsyncClient]


class Servers:
    """A database server with every service's database in it, and a cache."""

    def __init__(self, system: System) -> None:
        self.endpoints = system.endpoints
        self.secrets: Secrets = load_secrets(system.state)
        self.tls = system.state.tls
        self._migrated: set[str] = set()
        self._numbers = itertools.count(1)

    def identity(self, name: str) -> rpc.Tls:
        """The certificate of a service."""
        return rpc.Tls(self.tls / "ca.pem", self.tls / f"{name}.pem", self.tls / f"{name}.key")

    async def copy(self, service: str) -> str:
        """The address, for the service's runtime role, of a fresh copy of its migrated database."""
        template, role = database_of(service), runtime_role_of(service)
        if service not in self._migrated:
            owner = database_url(
                self.endpoints.postgres, template, owner_of(service), self.secrets.owner_passwords[service]
            )
            own = Path(import_module(f"services.{role}").__path__[0]) / "migrations"
            assert await asyncio.to_thread(migrate, owner, own, PARTS) == 0
            self._migrated.add(service)
        name = f"test_{next(self._numbers)}"
        connection = await asyncpg.connect(self.endpoints.postgres)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner_of(service)}")
            await connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {role}")
        finally:
            await connection.close()
        return database_url(self.endpoints.postgres, name, role, self.secrets.runtime_passwords[service])


@pytest.fixture(autouse=True)
def failed_jobs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least half of what they may: jitter can choose no wait at all, and `run_until_idle` would try again itself."""

    def patient(attempt: int, *, base: float, cap: float) -> float:
        least = full_jitter(attempt, base=base / 2, cap=cap / 2, uniform=lambda _, longest: longest)
        return least + full_jitter(attempt, base=base / 2, cap=cap / 2)

    monkeypatch.setattr(worker, "full_jitter", patient)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """PostgreSQL and Valkey for the whole session."""
    with System(tmp_path_factory.mktemp("servers"), pick_port_base(), only=("postgres", "valkey")) as system:
        yield Servers(system)
    # A thousand databases. pytest would delete them at the end of this session or a later one; that takes a minute or
    # two, and nobody needs to wait for it. Where it is cut short the next session goes on: they are gigabytes.
    doomed = Path(tempfile.mkdtemp(prefix=_DOOMED))
    system.state.data.rename(doomed / "data")
    left = [str(each) for each in doomed.parent.glob(f"{_DOOMED}*")]
    subprocess.Popen(["rm", "-rf", *left], start_new_session=True)  # noqa: S603, S607 - paths of our own


@pytest_asyncio.fixture(loop_scope="session")
async def database_for(servers: Servers) -> AsyncIterator[DatabaseFor]:
    """Fresh databases, as in `await database_for("catalog")`."""
    opened: list[Database] = []

    async def give(service: str) -> Database:
        database = Database(await servers.copy(service), size=20, application="test")
        opened.append(database)
        return database

    yield give
    for database in opened:
        await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def cache(servers: Servers) -> AsyncIterator[Cache]:
    """An empty Valkey, which a busy machine may keep waiting: to hang it on purpose takes a proxy."""
    cache = Cache(servers.endpoints.redis, socket_timeout=10.0)
    await cache.client.flushall()
    yield cache
    await cache.close()


@pytest.fixture
def settings_for(servers: Servers) -> Callable[..., ServiceSettings]:
    """Settings that are valid and point nowhere, as in `settings_for(CatalogSettings, hold_ttl_seconds=5)`."""

    def give(settings: type[S], **overrides: object) -> S:
        tls = servers.identity("operator")
        values: dict[str, object] = {
            "http_port": 1,
            "grpc_port": 1,
            "database_url": servers.endpoints.postgres,
            "redis_url": servers.endpoints.redis,
            "accounts_grpc": "127.0.0.1:1",
            "admin_grpc": "127.0.0.1:1",
            "tls_ca_file": tls.ca,
            "tls_cert_file": tls.certificate,
            "tls_key_file": tls.key,
        }
        return settings(**(values | overrides))  # type: ignore[arg-type]

    return give


@pytest_asyncio.fixture(loop_scope="session")
async def runtime_for(
    servers: Servers, settings_for: Callable[..., ServiceSettings]
) -> AsyncIterator[Callable[..., Awaitable[Runtime[ServiceSettings]]]]:
    """A runtime on a fresh database, as in `await runtime_for("catalog", CatalogSettings, hold_ttl_seconds=5)`."""
    opened: list[Runtime[ServiceSettings]] = []

    async def give(service: str, settings: type[ServiceSettings], **overrides: object) -> Runtime[ServiceSettings]:
        url = await servers.copy(service)
        runtime = Runtime(service, settings_for(settings, database_url=url, **overrides))
        opened.append(runtime)
        return runtime

    yield give
    for runtime in opened:
        await runtime.close()


@pytest_asyncio.fixture(loop_scope="session")
async def serve_rpc(servers: Servers) -> AsyncIterator[ServeRpc]:
    """Serves an application's RPCs with mutual TLS; gives channels that carry a caller's certificate."""
    started: list[grpc.aio.Server] = []
    channels: list[grpc.aio.Channel] = []

    async def serve(application: Application) -> Callable[[str], grpc.aio.Channel]:
        server, _, port = rpc.build_server(
            application.rpcs, access_pb2.access, address=f"{HOST}:0", tls=servers.identity("operator")
        )
        await server.start()
        started.append(server)

        def connect(caller: str) -> grpc.aio.Channel:
            channels.append(rpc.channel(f"{HOST}:{port}", servers.identity(caller)))
            return channels[-1]

        return connect

    yield serve
    for channel in channels:
        await channel.close()
    for server in started:
        await server.stop(0)


@pytest_asyncio.fixture(loop_scope="session")
async def client_for() -> AsyncIterator[ClientFor]:
    """HTTP clients on an application's edge, as in `client_for(application)`.

    With `runtime.perimeter`, machines and other sites are treated as its settings say.
    """
    clients: list[httpx.AsyncClient] = []

    def give(application: Application, perimeter: Perimeter | None = None) -> httpx.AsyncClient:
        # Longer than in service: a machine that is busy testing is no fault of what is tested.
        edge = application.asgi(Readiness({}), request_seconds=30.0, perimeter=perimeter)
        transport = httpx.ASGITransport(edge, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://shop.test"))
        return clients[-1]

    yield give
    for client in clients:
        await client.aclose()


def port_of(url: str) -> int:
    """The port in an address."""
    port = urlsplit(url).port
    assert port is not None
    return port
