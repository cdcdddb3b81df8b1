"""A database with the library's own tables and nothing else."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from deploy.local.databases import database_url
from reliability.migrations import PARTS, migrate
from reliability.postgres import Database

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
