"""What a promise costs: each guarded write against its floor, measured in turn in one run.

Exit status 1 when a ratio is above its goal. Ratios, not times: the machine's speed cancels out.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deploy.local.databases import database_url
from deploy.local.ports import pick_port_base
from deploy.local.system import System
from reliability import dedup, inbox, jobs
from reliability.ids import new_id
from reliability.inbox import Received
from reliability.migrations import PARTS, migrate
from reliability.postgres import Connection, prepare
from reliability.redis import Cache

ROUNDS = 40
BATCH = 25
BODY = b'{"id": "evt", "type": "payment_intent.succeeded", "data": {"object": {"id": "pi"}}}'

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A guarded step, the bare step below it, and how much dearer it may be."""

    name: str
    guarded: Step
    floor: Step
    goal: float


async def _timed(step: Step) -> float:
    started = time.perf_counter()
    for _ in range(BATCH):
        await step()
    return time.perf_counter() - started


async def measure(comparison: Comparison) -> float:
    """The median over rounds of guarded/floor; the two take turns, so that drift hits both."""
    await _timed(comparison.floor)
    await _timed(comparison.guarded)
    ratios = []
    for _ in track(range(ROUNDS), description=comparison.name, transient=True):
        floor = await _timed(comparison.floor)
        ratios.append(await _timed(comparison.guarded) / floor)
    return statistics.median(ratios)


def comparisons(connection: Connection, cache: Cache) -> list[Comparison]:
    """What is compared."""

    async def bare_insert() -> None:
        await connection.execute("INSERT INTO floor (id, body) VALUES ($1, $2)", new_id(), BODY)

    async def receive() -> None:
        event = Received("bench", new_id(), "payment_intent.succeeded", new_id(), BODY)
        await inbox.receive(connection, event, job="process_event")

    async def enqueue() -> None:
        await jobs.enqueue(connection, "work", {"n": 1}, unique_key=new_id())

    async def bare_set() -> None:
        await cache.client.set(new_id(), "owner", nx=True, ex=60)

    async def deduplicated() -> None:
        async with dedup.deduplicate(cache, "bench", {"id": new_id()}):
            pass

    return [
        Comparison("inbox row + job in one statement / one INSERT", receive, bare_insert, 2.0),
        Comparison("enqueue with unique key / one INSERT", enqueue, bare_insert, 2.0),
        Comparison("deduplicate / SET NX EX", deduplicated, bare_set, 2.0),
    ]


async def _connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection that is held for the whole run, set up as the pool sets its own up."""
    connection = await asyncpg.connect(url)
    await prepare(connection)
    return connection


async def run(postgres: str, redis: str, console: Console) -> int:
    """Measures everything and prints the table."""
    server = await asyncpg.connect(postgres)
    await server.execute("CREATE DATABASE bench")
    await server.close()
    url = database_url(postgres, "bench")
    with tempfile.TemporaryDirectory() as empty:
        if await asyncio.to_thread(migrate, url, Path(empty), PARTS):
            return 1
    cache = Cache(redis)
    connection = await _connect(url)
    table = Table("comparison", "ratio", "goal", title=f"medians of {ROUNDS} rounds of {BATCH}")
    missed = 0
    await connection.execute("CREATE TABLE floor (id uuid PRIMARY KEY, body bytea NOT NULL)")
    for comparison in comparisons(connection, cache):
        ratio = await measure(comparison)
        missed += ratio > comparison.goal
        table.add_row(comparison.name, f"{ratio:.2f}", f"<= {comparison.goal}")
    console.print(table)
    await cache.close()
    await connection.close()
    return 1 if missed else 0


def main() -> None:
    """Starts its own servers, so that nothing else is disturbed."""
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base(), only=("postgres", "valkey")) as system,
    ):
        status = asyncio.run(run(system.endpoints.postgres, system.endpoints.redis, Console()))
    sys.exit(status)


if __name__ == "__main__":
    main()
