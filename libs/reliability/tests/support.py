"""What several of these tests look at the world with."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import httpx

from reliability import jobs
from reliability.asgi import Answer, Call, Endpoint
from reliability.errors import Problem
from reliability.health import Readiness
from reliability.postgres import Database
from reliability.redis import Cache
from reliability.rpc.status import DETAILS, from_call, pushback, to_status
from reliability.runtime import Application
from reliability.testing import FaultProxy


@dataclass(frozen=True)
class Distant:
    """A database behind a network that can fail, and the same one seen directly."""

    database: Database
    near: Database
    proxy: FaultProxy
    url: str

    async def notes(self) -> list[str]:
        """What was committed."""
        async with self.near.connection() as connection:
            return [row["text"] for row in await connection.fetch("SELECT text FROM notes ORDER BY text")]

    async def note(self, text: str) -> None:
        """Commits one row through the proxy."""
        async with self.database.transaction() as connection:
            await connection.execute("INSERT INTO notes VALUES ($1)", text)


@dataclass(frozen=True)
class DistantCache:
    """A cache behind a network that can fail, and the same one seen directly."""

    cache: Cache
    near: Cache
    proxy: FaultProxy


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Returns when `condition` is true; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def put(database: Database, kind: str = "work", payload: dict[str, Any] | None = None, **options: Any) -> int:
    """Enqueues one job; its id."""
    async with database.transaction() as connection:
        (job_id,) = await jobs.enqueue_many(connection, [jobs.NewJob(kind, payload or {}, **options)])
        return job_id


async def rows(database: Database, kind: str = "work") -> list[dict[str, Any]]:
    """The jobs of a kind, oldest first."""
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch("SELECT * FROM jobs WHERE kind = $1 ORDER BY id", kind)]


async def row(database: Database, kind: str = "work") -> dict[str, Any]:
    """The only job of a kind."""
    (only,) = await rows(database, kind)
    return only


async def sql(database: Database, statement: str, *values: object) -> str:
    """One statement, at once."""
    async with database.connection() as connection:
        return str(await connection.execute(statement, *values))


async def expire_leases(database: Database) -> None:
    """As if the worker had died half a minute ago."""
    await sql(database, "UPDATE jobs SET lease_until = now() - interval '1 second' WHERE state = 'running'")


async def make_due(database: Database) -> None:
    """As if every wait were over."""
    await sql(database, "UPDATE jobs SET run_at = now() WHERE state = 'queued'")


async def answer_of(
    application: Application, method: str, path: str, *, readiness: Readiness | None = None, **options: Any
) -> httpx.Response:
    """What the edge of an application answers."""
    edge = application.asgi(readiness or Readiness({}), request_seconds=8.0)
    transport = httpx.ASGITransport(edge, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        return await client.request(method, path, **options)


def leaves(root: type[Problem] = Problem) -> list[type[Problem]]:
    """The whole error tree below `root`, as far as it has been imported, without `root`."""
    below = {kind for child in root.__subclasses__() for kind in (child, *leaves(child))}
    return sorted(below, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def an(kind: type[Problem]) -> Problem:
    """An error of this kind with everything it may carry, whatever its constructor makes of its arguments."""
    error = kind.__new__(kind)
    Problem.__init__(error, "What the caller is told.", retry_after=2.5, order={"id": 7})
    return error


async def assert_error_crosses(error: Problem) -> None:
    """It answers over HTTP with its status and document, and comes out of a gRPC call as what it went in."""

    async def fail(_call: Call) -> Answer:
        raise error

    answer = await answer_of(Application([Endpoint("GET", "/", fail)]), "GET", "/")
    assert answer.status_code == error.status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == error.document(answer.headers["x-correlation-id"])
    if error.retry_after is not None:
        assert answer.headers["retry-after"] == str(math.ceil(error.retry_after))

    status, details = to_status(error)
    assert status is grpc.StatusCode[error.grpc]
    trailers = grpc.aio.Metadata((DETAILS, details), *pushback(error))
    remote = from_call(grpc.aio.AioRpcError(status, grpc.aio.Metadata(), trailers), "step")
    for name in ("code", "title", "status", "grpc", "detail", "retry_after", "extensions"):
        assert getattr(remote, name) == getattr(error, name), name
    assert remote.document("x") == error.document("x")
