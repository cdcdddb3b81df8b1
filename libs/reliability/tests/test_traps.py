"""Traps of the libraries around us that no other file of tests is about; `docs/traps.md` lists all of them."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from deploy.local.ports import HOST
from libs.reliability.tests.support import Distant, DistantCache, put, rows, sql
from reliability import inbox, jobs, rpc, telemetry
from reliability.asgi import Edge
from reliability.context import correlation_id
from reliability.deadline import EXTERNAL_CAP, deadline_scope
from reliability.dedup import deduplicate
from reliability.errors import DeadlineExceeded, Problem, Unavailable
from reliability.ids import new_id
from reliability.jobs import Job, Worker, queue
from reliability.postgres import Database
from reliability.rate_limit import LOGIN, SIGNUP, RateLimiter

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "libs" / "reliability" / "docs" / "traps.md"

# --- the index


def test_every_test_of_the_index_exists() -> None:
    """A row names a file and a function in it, and so does every test its words speak of."""
    named = re.findall(r"`([\w/.]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 30
    for file, function in named:
        path = ROOT / file if "/" in file else Path(__file__).with_name(file)
        assert re.search(rf"^(async )?def {function}\(", path.read_text(), re.MULTILINE), f"{file}::{function}"


def test_every_guard_of_the_index_is_a_module() -> None:
    """A row names what holds it, beside the tests that say so."""
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "::" in line]
    for line in table:
        guard = line.split(" | ")[1]
        modules = re.findall(r"`(reliability[\w.]*|services[\w.]*)`", guard)
        assert modules, line
        for module in modules:
            place = Path(*module.split("."))
            bases = (ROOT / "libs" / "reliability" / "src" / place, ROOT / place)
            assert any(base.with_suffix(".py").exists() or base.is_dir() for base in bases), module


# --- grpc.aio


@pytest_asyncio.fixture(loop_scope="session")
async def serve() -> AsyncIterator[Callable[[Any], Any]]:
    """Serves one method of a plain grpc.aio server, and gives what calls it, with its channel."""
    async with asyncio.TaskGroup() as closing:
        end = asyncio.Event()

        async def start(behaviour: Any) -> Any:
            server = grpc.aio.server(interceptors=[rpc.Edge()])
            handler = grpc.unary_unary_rpc_method_handler(
                behaviour, StringValue.FromString, StringValue.SerializeToString
            )
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", {"Ask": handler}),))
            port = server.add_insecure_port(f"{HOST}:0")
            await server.start()
            channel = grpc.aio.insecure_channel(f"{HOST}:{port}")

            async def close() -> None:
                await end.wait()
                await channel.close()
                await server.stop(0)

            closing.create_task(close())
            method: Any = channel.unary_unary(
                "/shop.Shop/Ask",
                request_serializer=StringValue.SerializeToString,
                response_deserializer=StringValue.FromString,
            )
            return method, channel

        yield start
        end.set()


async def ask(method: Any, **options: Any) -> str:
    """One call of a dependency of its own."""
    answer = await rpc.invoke(method, StringValue(value="tea"), step=f"{new_id()}.Ask", attempts=1, **options)
    return str(answer.value)


async def test_a_servicer_that_is_not_asynchronous_is_refused_before_it_runs(serve: Callable[[Any], Any]) -> None:
    """grpc.aio runs it in a thread without our context variables: no ids, no deadline, no principal."""
    ran: list[str] = []

    def order(request: StringValue, _context: Any) -> StringValue:
        ran.append(correlation_id())
        return request

    async def order_async(request: StringValue, context: Any) -> StringValue:
        return order(request, context)

    with pytest.raises(Problem) as refused:
        await ask((await serve(order))[0])
    assert (refused.value.code, ran) == ("internal", [])
    assert await ask((await serve(order_async))[0]) == "tea"
    assert len(ran) == 1
    assert ran[0]


async def test_the_trace_goes_along_and_a_call_that_hangs_ends_its_span(
    serve: Callable[[Any], Any], spans: "InMemorySpanExporter"
) -> None:
    """Nobody asks the call for its code, which a call that was given up never has."""
    seen: list[dict[str, str]] = []
    asked = asyncio.Event()

    async def hang(_request: StringValue, _context: Any) -> StringValue:
        seen.append(telemetry.carrier())
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    method, _ = await serve(hang)
    impatient = asyncio.create_task(ask(method))
    await asked.wait()
    impatient.cancel()
    done, _ = await asyncio.wait({impatient}, timeout=EXTERNAL_CAP / 2)  # not at the end of the call's own time
    assert done
    assert impatient.cancelled()
    with deadline_scope(0.2), pytest.raises(DeadlineExceeded):
        await ask(method)
    calls = [span for span in spans.get_finished_spans() if span.kind is SpanKind.CLIENT]
    assert len(calls) == len(seen) == 2
    for call, carried in zip(calls, seen, strict=True):
        assert f"{call.context.trace_id:032x}" in carried["traceparent"]


IMPORT_ALL = """
import importlib, os, pkgutil, threading
import grpc, grpc.aio, reliability

def refuse(*_args, **_options):
    raise AssertionError("a channel was made while a module was imported")

for module in (grpc, grpc.aio):
    module.secure_channel = module.insecure_channel = refuse
for each in pkgutil.walk_packages(reliability.__path__, "reliability."):
    importlib.import_module(each.name)
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
child = os.fork()
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


def test_importing_opens_no_channel_and_starts_no_thread() -> None:
    """Channels do not survive a fork: they are made by the process that uses them, inside its loop."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_channel_that_closes_is_no_cancellation(serve: Callable[[Any], Any]) -> None:
    """Nobody asked the caller to stop: it is told that the peer is away, and may go on."""
    asked = asyncio.Event()

    async def hang(_request: StringValue, _context: Any) -> StringValue:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    method, channel = await serve(hang)
    calling = asyncio.create_task(ask(method))
    await asked.wait()
    await channel.close()
    with pytest.raises(Unavailable, match="was closed"):
        await calling


# --- ASGI


async def test_a_handler_runs_in_the_context_of_the_edge() -> None:
    """`BaseHTTPMiddleware` starts a task for it: what the handler sets would be lost to whoever is around it."""
    said: ContextVar[str] = ContextVar("said", default="")
    heard: list[str] = []

    async def handler(request: Request) -> JSONResponse:
        said.set("by the handler")
        return JSONResponse({"outside": outside.get(), "path": request.url.path})

    outside: ContextVar[str] = ContextVar("outside", default="")
    edge = Edge(Router([Route("/", handler)]))

    async def server(scope: Any, receive: Any, send: Any) -> None:
        outside.set("by the server")
        await edge(scope, receive, send)
        heard.append(said.get())

    async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://shop.test") as client:
        answer = await client.get("/")
    assert answer.json()["outside"] == "by the server"
    assert heard == ["by the handler"]


# --- round trips


async def test_a_guarded_request_asks_redis_twice(distant_cache: DistantCache) -> None:
    """Once for all of its limits, once for the second click."""
    limiter = RateLimiter(distant_cache.cache)

    async def request(number: int) -> None:
        await limiter.check([(LOGIN, f"client {number}"), (SIGNUP, f"account {number}")])
        async with deduplicate(distant_cache.cache, "order", {"number": number}):
            pass

    await request(1)  # sends the script as well
    before = distant_cache.proxy.count(b"\r\n*")
    await request(2)
    assert distant_cache.proxy.count(b"\r\n*") - before == 2


async def test_a_job_and_an_event_with_its_job_are_one_statement_each(database: Database) -> None:
    """On the caller's connection, within its transaction."""
    event = inbox.Received("stripe", "evt_1", "paid", "pi_1", b"{}")
    said: list[str] = []
    async with database.transaction() as connection:
        with connection.query_logger(lambda record: said.append(record.query)):
            await jobs.enqueue(connection, "work", {})
            await inbox.receive(connection, event, job="process")
    assert len(said) == 2


# --- jobs


async def test_jobs_that_fail_together_come_back_apart(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is drawn for each: a hundred that met the same outage do not come back as one wave."""
    waits: list[float] = []

    async def record(connection: Any, job: Job, delay: float, error: str) -> None:
        waits.append(delay)
        await queue.wait(connection, job, 3600, error)

    async def fail(_job: Job) -> None:
        raise ValueError

    monkeypatch.setattr(queue, "fail", record)
    async with database.transaction() as connection:
        await jobs.enqueue_many(connection, [jobs.NewJob("work", {})] * 20)
    worker = Worker(database)
    worker.handle("work", fail)
    await worker.run_until_idle()
    assert len(waits) == len(set(waits)) == 20


async def test_a_job_that_nobody_told_of_is_found_by_the_poll(
    distant: Distant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is a hint and stays in its process: what another one commits is found all the same."""
    monkeypatch.setattr(jobs.worker, "HOUSEKEEPING", 3600.0)  # which would find it as well, later
    done: asyncio.Queue[str] = asyncio.Queue()

    async def handle(job: Job) -> None:
        await done.put(job.payload["said"])

    worker = Worker(distant.near, poll=0.01, lease=36_000)
    worker.handle("work", handle)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(10):
        await put(distant.near, payload={"said": "by a signal"})
        assert await done.get() == "by a signal"
        another = await asyncpg.connect(distant.url)
        for _ in range(3):  # the end of a job wakes as well, so one would not be enough
            await another.execute(
                """INSERT INTO jobs (kind, payload, max_attempts) VALUES ('work', '{"said": "by nobody"}', 1)"""
            )
            assert await done.get() == "by nobody"
            while await another.fetchval("SELECT count(*) FROM jobs WHERE state = 'running'"):
                await asyncio.sleep(0.01)
        await another.close()
    stop.set()
    await running


async def test_a_cancellation_nobody_asked_for_is_a_failed_attempt(database: Database) -> None:
    """A closed channel raises it within the handler: the job is neither deleted nor done, and the attempt counts."""

    async def handle(_job: Job) -> None:
        raise asyncio.CancelledError

    await put(database, max_attempts=1)
    worker = Worker(database)
    worker.handle("work", handle)
    assert await worker.run_until_idle() == 1
    (job,) = await rows(database)
    assert (job["state"], job["attempt"]) == ("parked", 1)


# --- webhooks


async def test_an_event_is_remembered_for_ninety_days(database: Database) -> None:
    """Stripe sends again for three days and lists for thirty: a day would let an old event in a second time."""
    for name in ("young", "old", "waiting"):
        async with database.transaction() as connection:
            await inbox.receive(connection, inbox.Received("stripe", name, "paid", "pi", b"{}"), job="process")
    await sql(database, "UPDATE inbox SET state = 'processed', finished_at = now() WHERE event_id <> 'waiting'")
    for name, days in (("young", 89), ("old", 91), ("waiting", 91)):
        await sql(
            database, "UPDATE inbox SET received_at = now() - $2 * interval '1 day' WHERE event_id = $1", name, days
        )
    async with database.transaction() as connection:
        assert await inbox.purge(connection) == 1
    for name, is_new in (("young", False), ("waiting", False), ("old", True)):
        async with database.transaction() as connection:
            event = inbox.Received("stripe", name, "paid", "pi", b"{}")
            assert (await inbox.receive(connection, event, job="process") is not None) is is_new
