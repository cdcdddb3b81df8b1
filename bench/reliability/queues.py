"""Three queues behind one interface, each driven the way its documentation drives it."""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Protocol, Self

import procrastinate
import psycopg
from pgqueuer.core.qm import QueueManager
from pgqueuer.db import AsyncpgDriver
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from bench.reliability.stage import Raw, Stage, named
from reliability import jobs
from reliability.jobs import NewJob, Worker, queue
from reliability.postgres import Database

__all__ = ["Ours", "PgQueuer", "Procrastinate", "Queue"]

SLOTS = 20
PAYLOAD = {"n": 1}
ORDERS = "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"
ORDER = "INSERT INTO orders DEFAULT VALUES"
_CHUNK = 2_000


class Queue(Protocol):
    """What is measured of a queue."""

    name: ClassVar[str]

    @classmethod
    async def open(cls, stage: Stage, name: str) -> Self:
        """In a database of its own."""

    async def order(self) -> None:
        """An order and its job in one transaction."""

    async def fill(self, times: int) -> None:
        """So many jobs are due, and no others."""

    async def drain(self, times: int) -> None:
        """A worker runs them all."""

    async def check(self, times: int) -> None:
        """Fails when a job is left."""

    async def claim(self) -> None:
        """Takes one job."""

    async def clear(self, times: int) -> None:
        """Nothing is due or running."""

    async def bury(self, count: int) -> None:
        """So many jobs were claimed and finished, and what they left behind stays."""


def _chunks(count: int) -> list[int]:
    whole, rest = divmod(count, _CHUNK)
    return [_CHUNK] * whole + ([rest] if rest else [])


@dataclass(slots=True)
class Ours:
    """`reliability.jobs`."""

    connection: Raw
    database: Database
    name: ClassVar[str] = "reliability.jobs"

    @classmethod
    async def open(cls, stage: Stage, name: str) -> Self:
        url = await stage.create(f"{name}_jobs", library=True)
        connection = await stage.connect(url)
        await connection.execute(ORDERS)
        return cls(connection, stage.database(url))

    async def order(self) -> None:
        async with self.connection.transaction():
            await self.connection.execute(ORDER)
            await jobs.enqueue(self.connection, "work", PAYLOAD)

    async def fill(self, times: int) -> None:
        await self.clear(times)
        for chunk in _chunks(times):
            await jobs.enqueue_many(self.connection, [NewJob("work", PAYLOAD)] * chunk)

    async def drain(self, times: int) -> None:
        stop, seen = asyncio.Event(), 0

        async def handler(_job: jobs.Job) -> None:
            nonlocal seen
            seen += 1
            if seen == times:
                stop.set()

        worker = Worker(self.database, concurrency=SLOTS)
        worker.handle("work", handler)
        await worker.run(stop)

    async def check(self, times: int) -> None:
        done = await self.connection.fetchval("SELECT count(*) FROM jobs WHERE kind = 'work' AND state = 'done'")
        await self.connection.execute("DELETE FROM jobs")
        if done != times:
            raise AssertionError(f"{done} of {times} jobs are done")

    async def claim(self) -> None:
        (_,) = await queue.claim(self.connection, ["work"], 1, 30.0)

    async def clear(self, times: int) -> None:
        del times
        await self.connection.execute(
            "UPDATE jobs SET state = 'done', finished_at = now(), lease_until = NULL "
            "WHERE state IN ('queued', 'running')"
        )

    async def bury(self, count: int) -> None:
        await self.connection.execute("ALTER TABLE jobs SET (autovacuum_enabled = off)")
        await self.fill(count)
        await self.connection.execute("UPDATE jobs SET state = 'running', lease_until = now() WHERE state = 'queued'")
        await self.clear(count)
        await self.connection.execute("ANALYZE jobs")


@dataclass(slots=True)
class PgQueuer:
    """PgQueuer: https://pypi.org/project/pgqueuer/ ."""

    connection: Raw
    queries: Any
    name: ClassVar[str] = named("pgqueuer")

    @classmethod
    async def open(cls, stage: Stage, name: str) -> Self:
        connection = await stage.connect(await stage.create(f"{name}_pgqueuer", library=False))
        await connection.execute(ORDERS)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        return cls(connection, queries)

    async def order(self) -> None:
        async with self.connection.transaction():
            await self.connection.execute(ORDER)
            await self.queries.enqueue("work", b'{"n": 1}')

    async def fill(self, times: int) -> None:
        await self.clear(times)
        for chunk in _chunks(times):
            await self.queries.enqueue(["work"] * chunk, [b'{"n": 1}'] * chunk, [0] * chunk)

    async def drain(self, times: int) -> None:
        del times
        manager = QueueManager(self.queries)
        manager.entrypoint("work")(_nothing)
        await manager.run(
            batch_size=SLOTS // 2,
            mode=QueueExecutionMode.drain,
            max_concurrent_tasks=SLOTS,
            dequeue_timeout=timedelta(milliseconds=10),
        )

    async def check(self, times: int) -> None:
        done = await self.connection.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")
        await self.connection.execute("DELETE FROM pgqueuer_log")
        if done != times or await self.connection.fetchval("SELECT count(*) FROM pgqueuer"):
            raise AssertionError(f"{done} of {times} jobs are done")

    async def claim(self) -> None:
        limits = {"work": EntrypointExecutionParameter(0)}
        (_,) = await self.queries.dequeue(1, limits, _MANAGER, None, timedelta(seconds=30))

    async def clear(self, times: int) -> None:
        del times
        await self.connection.execute("DELETE FROM pgqueuer")

    async def bury(self, count: int) -> None:
        await self.connection.execute("ALTER TABLE pgqueuer SET (autovacuum_enabled = off)")
        await self.fill(count)
        await self.connection.execute(
            "UPDATE pgqueuer SET status = 'picked', heartbeat = now(), updated = now(), queue_manager_id = $1", _MANAGER
        )
        await self.clear(count)
        await self.connection.execute("ANALYZE pgqueuer")


@dataclass(slots=True)
class Procrastinate:
    """Procrastinate: https://pypi.org/project/procrastinate/ ."""

    app: Any
    task: Any
    connection: Any
    worker: list[int] = field(default_factory=list)
    name: ClassVar[str] = named("procrastinate")

    @classmethod
    async def open(cls, stage: Stage, name: str) -> Self:
        url = await stage.create(f"{name}_procrastinate", library=False)
        connector = procrastinate.PsycopgConnector(conninfo=url, max_size=12)
        app = procrastinate.App(connector=connector)
        task = app.task(name="work")(_task)
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        stage.closing.push_async_callback(connection.close)
        await connection.execute(ORDERS)
        await stage.closing.enter_async_context(app.open_async())
        await app.schema_manager.apply_schema_async()
        return cls(app, task, connection)

    async def order(self) -> None:
        async with self.connection.transaction():
            await self.connection.execute(ORDER)
            await self.task.configure(connection=self.connection).defer_async(n=1)

    async def fill(self, times: int) -> None:
        await self.clear(times)
        for chunk in _chunks(times):
            await self.task.batch_defer_async(*[PAYLOAD] * chunk)

    async def drain(self, times: int) -> None:
        del times
        await self.app.run_worker_async(wait=False, concurrency=SLOTS, install_signal_handlers=False)

    async def check(self, times: int) -> None:
        cursor = await self.connection.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")
        (done,) = await cursor.fetchone()
        await self.connection.execute("DELETE FROM procrastinate_jobs")
        if done != times:
            raise AssertionError(f"{done} of {times} jobs are done")

    async def claim(self) -> None:
        if not self.worker:
            self.worker.append(await self.app.job_manager.register_worker())
        if await self.app.job_manager.fetch_job(queues=None, worker_id=self.worker[0]) is None:
            raise AssertionError("nothing was claimed")

    async def clear(self, times: int) -> None:
        del times
        for before, after in (("todo", "doing"), ("doing", "succeeded")):
            await self.connection.execute(f"UPDATE procrastinate_jobs SET status = '{after}' WHERE status = '{before}'")

    async def bury(self, count: int) -> None:
        for table in ("jobs", "events"):
            await self.connection.execute(f"ALTER TABLE procrastinate_{table} SET (autovacuum_enabled = off)")
        await self.fill(count)
        await self.clear(count)
        await self.connection.execute("ANALYZE")


async def _nothing(_job: Any) -> None:
    pass


async def _task(n: int) -> None:
    pass


_MANAGER = uuid.uuid4()
