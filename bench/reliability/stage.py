"""The servers of a run: one PostgreSQL, one Valkey, and whatever has to be closed at the end."""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from redis.asyncio import Redis

from deploy.local.databases import database_url
from reliability.migrations import PARTS, migrate
from reliability.postgres import Database, prepare
from reliability.redis import Cache

if TYPE_CHECKING:
    Raw = asyncpg.Connection[asyncpg.Record]
else:
    Raw = asyncpg.Connection

__all__ = ["Raw", "Stage", "named"]


def named(package: str) -> str:
    """A peer as it is called in the tables: with its version."""
    return f"{package} {version(package)}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the servers are. What is opened here is closed by `closing`."""

    postgres: str
    redis: str
    closing: AsyncExitStack

    def cache(self) -> Cache:
        """Ours."""
        cache = Cache(self.redis)
        self.closing.push_async_callback(cache.close)
        return cache

    def client(self) -> Redis:
        """redis-py as it comes, for floors and peers."""
        client: Redis = Redis.from_url(self.redis)
        self.closing.push_async_callback(client.aclose)
        return client

    async def create(self, name: str, *, library: bool) -> str:
        """The address of a new database, with the library's tables or empty. Nothing tidies it up while it is used."""
        server = await asyncpg.connect(self.postgres)
        await server.execute(f"CREATE DATABASE {name}")
        await server.close()
        url = database_url(self.postgres, name)
        if library:
            with tempfile.TemporaryDirectory() as empty:
                if await asyncio.to_thread(migrate, url, Path(empty), PARTS):
                    raise SystemExit(1)
        return url

    async def connect(self, url: str) -> Raw:
        """One connection, set up as the library's pool sets its own up."""
        connection = await asyncpg.connect(url)
        self.closing.push_async_callback(connection.close)
        await prepare(connection)
        return connection

    def database(self, url: str) -> Database:
        """The library's pool."""
        database = Database(url, size=12, application="bench")
        self.closing.push_async_callback(database.close)
        return database
