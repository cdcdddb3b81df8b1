"""Databases with the library's own tables and nothing else, and a network that misbehaves on order."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.local.databases import database_url
from libs.reliability.tests.support import Distant, DistantCache
from reliability.exporting import CorrelationProcessor
from reliability.migrations import PARTS, migrate
from reliability.postgres import Database
from reliability.redis import Cache
from reliability.testing import FaultProxy

if TYPE_CHECKING:
    from conftest import Servers

_numbers = itertools.count(1)
_TEMPLATE = "library_template"


@pytest.fixture(scope="session")
def library_template(servers: "Servers", tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a migrated database to copy."""
    server = servers.endpoints.postgres

    async def create() -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        await connection.close()

    asyncio.run(create())
    empty: Path = tmp_path_factory.mktemp("migrations")
    assert migrate(database_url(server, _TEMPLATE), empty, PARTS) == 0
    return _TEMPLATE


@pytest_asyncio.fixture(loop_scope="session")
async def new_url(servers: "Servers", library_template: str) -> Callable[[], Awaitable[str]]:
    """Gives addresses of fresh databases."""

    async def give() -> str:
        name = f"library_{next(_numbers)}"
        connection = await asyncpg.connect(servers.endpoints.postgres)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {library_template}")
        await connection.close()
        return database_url(servers.endpoints.postgres, name)

    return give


@pytest_asyncio.fixture(loop_scope="session")
async def database(new_url: Callable[[], Awaitable[str]]) -> AsyncIterator[Database]:
    """A fresh database with the library's tables."""
    database = Database(await new_url(), size=30, application="test")
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def distant(new_url: Callable[[], Awaitable[str]]) -> AsyncIterator[Distant]:
    """A fresh database, with a table `notes`, behind a proxy. Its pool has three connections."""
    url = await new_url()
    async with FaultProxy.before(url) as proxy:
        near = Database(url, size=5, application="near")
        database = Database(proxy.through(url), size=3, application="distant")
        async with near.connection() as connection:
            await connection.execute("CREATE TABLE notes (text text PRIMARY KEY)")
        yield Distant(database, near, proxy, url)
        proxy.forward()
        await database.close()
        await near.close()


@pytest_asyncio.fixture(loop_scope="session")
async def distant_cache(servers: "Servers", cache: Cache) -> AsyncIterator[DistantCache]:
    """The empty Valkey of `cache`, behind a proxy."""
    url = servers.endpoints.redis
    async with FaultProxy.before(url) as proxy:
        distant = Cache(proxy.through(url))
        yield DistantCache(distant, cache, proxy)
        proxy.forward()
        await distant.close()


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Receives every span of this process."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(CorrelationProcessor())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """The spans of one test."""
    exporter.clear()
    yield exporter
    exporter.clear()
