"""Migrations that move what is there: a database of the version before has its rows afterwards, as they were read."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest_asyncio

from deploy.local.databases import EXTENSIONS, database_url, owner_of
from reliability.migrations import PARTS, migrate

if TYPE_CHECKING:
    from conftest import Servers

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Upgrade = Callable[[], Awaitable[None]]
Older = Callable[[str, str], Awaitable[tuple[Connection, Upgrade]]]

BEGIN = datetime(2026, 11, 1, 12, tzinfo=UTC)
_SPANS = """
SELECT replace(trace_id::text, '-', '') AS trace_id, span_id, parent_id, service, name, kind, started_at, duration_ns,
       status, attributes, links, correlation_id
  FROM spans ORDER BY 1, 2
"""


@pytest_asyncio.fixture(loop_scope="session")
async def older(servers: "Servers", tmp_path: Path) -> AsyncIterator[Older]:
    """A service's database from before one of its migrations, and what applies the others to it.

    As in `await older("admin", "20261128000020")`.
    """
    opened: list[Connection] = []

    async def give(service: str, version: str) -> tuple[Connection, Upgrade]:
        name, owner = f"{service}_before_{version}", owner_of(service)
        server = await asyncpg.connect(servers.endpoints.postgres)
        await server.execute(f"CREATE DATABASE {name} OWNER {owner}")
        await server.close()
        inside = await asyncpg.connect(database_url(servers.endpoints.postgres, name))
        for extension in EXTENSIONS:
            await inside.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
        await inside.close()
        url = database_url(servers.endpoints.postgres, name, owner, servers.secrets.owner_passwords[service])
        all_of_them = Path(import_module(f"services.{service}").__path__[0]) / "migrations"
        before = tmp_path / name
        before.mkdir()
        for migration in all_of_them.glob("*.sql"):
            if migration.name < version:
                shutil.copy(migration, before)
        assert await asyncio.to_thread(migrate, url, before, PARTS) == 0
        opened.append(await asyncpg.connect(url))

        async def upgrade() -> None:
            assert await asyncio.to_thread(migrate, url, all_of_them, PARTS) == 0

        return opened[-1], upgrade

    yield give
    for connection in opened:
        await connection.close()


async def test_spans_of_before_are_read_as_ever(older: Older) -> None:
    """Of several traces and services, with a flow and without, to the microsecond; and they grow old as they would."""
    connection, upgrade = await older("admin", "20261128000020")
    one, two, first, second = "a" * 32, "0123456789abcdef" * 2, "1" * 16, "2" * 16
    received = BEGIN + timedelta(minutes=1)
    for trace_id in (one, two):
        await connection.execute("INSERT INTO traces VALUES ($1, $2, $3)", trace_id, BEGIN, received)
    link = f'[{{"trace_id": "{two}", "span_id": "{first}"}}]'
    spans: list[tuple[Any, ...]] = [
        (one, first, None, "orders", "checkout", "server", 0, 5_000_000_001, "error", "{}", "[]", "flow-1"),
        (one, second, first, "orders", "step", "internal", 1, 0, "ok", '{"n": 1, "s": "\\u00e4"}', "[]", "flow-1"),
        (one, "3" * 16, second, "catalog", "hold", "server", 2, 7, "unset", "{}", link, "flow-1"),
        (one, "4" * 16, "f" * 16, "orders", "nobody's", "client", 3, 7, "unset", "{}", "[]", None),
        (two, first, None, "orders", "job", "consumer", 123_456, 1, "unset", "{}", "[]", None),
    ]
    for trace_id, span_id, parent, service, name, kind, at, *rest in spans:
        started = BEGIN + timedelta(microseconds=at)
        await connection.execute(
            "INSERT INTO spans VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11::text::jsonb, $12)",
            *(trace_id, span_id, parent, service, name, kind, started, *rest),
        )
    before = await connection.fetch(_SPANS)
    await upgrade()
    assert await connection.fetch(_SPANS) == before
    assert len(before) == len(spans)
    batches = await connection.fetch("SELECT DISTINCT received_at FROM span_batches")
    assert [batch["received_at"] for batch in batches] == [received]


async def test_holds_that_catalog_ended_are_told_from_those_orders_released(older: Older) -> None:
    """Only the backstop comes ten minutes after a hold's end: a payment that is still on its way may have it again."""
    connection, upgrade = await older("catalog", "20261128000080")
    states = {"held": -60, "committed": -60, "released": 1, "expired": 601}
    for attempt, (state, seconds) in enumerate(states.items(), start=1):
        await connection.execute(
            "INSERT INTO holds VALUES (uuidv7(), $1, $2, $3, 'flow-1', $3, $4)",
            *(attempt, "released" if state == "expired" else state, BEGIN, BEGIN + timedelta(seconds=seconds)),
        )
    await upgrade()
    rows = await connection.fetch("SELECT state FROM holds ORDER BY attempt")
    assert [row["state"] for row in rows] == list(states)
