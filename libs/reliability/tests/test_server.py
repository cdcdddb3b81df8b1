"""One process from its environment to its drain, started as an operator starts it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.databases import database_url
from deploy.local.ports import HOST, pick_port_base
from reliability import rpc

if TYPE_CHECKING:
    from conftest import Servers

ROOT = Path(__file__).resolve().parents[3]
Environment = dict[str, str]


class Process:
    """The service of `a_service`, running."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self.running = running
        self.lines: list[dict[str, Any]] = []

    @classmethod
    async def start(cls, command: str, environment: Environment) -> "Process":
        """Does not wait for it to be ready."""
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "libs.reliability.tests.a_service", command),
                cwd=ROOT,
                env=os.environ | environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def says(self, event: str) -> dict[str, Any]:
        """Returns the next log line of this event."""
        assert self.running.stdout is not None
        async with asyncio.timeout(60):
            while line := await self.running.stdout.readline():
                self.lines.append(json.loads(line))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"it ended without {event}: {self.lines} {await self.end()}")

    async def said(self, event: str) -> dict[str, Any]:
        """Returns a log line of this event, of before or to come."""
        return next((line for line in self.lines if line["event"] == event), None) or await self.says(event)

    async def end(self) -> tuple[int, str]:
        """Its exit status and what it wrote to stderr, at the end of its own."""
        async with asyncio.timeout(60):
            output, errors = await self.running.communicate()
        self.lines += [json.loads(line) for line in output.splitlines()]
        return self.running.returncode or 0, errors.decode()


@pytest.fixture
def environment(servers: "Servers", tmp_path: Path) -> Environment:
    """What a service needs to be told."""
    tls = servers.identity("operator")
    base = pick_port_base()
    return {
        "HTTP_PORT": str(base),
        "GRPC_PORT": str(base + 1),
        "DATABASE_URL": servers.endpoints.postgres,
        "REDIS_URL": servers.endpoints.redis,
        "TLS_CA_FILE": str(tls.ca),
        "TLS_CERT_FILE": str(tls.certificate),
        "TLS_KEY_FILE": str(tls.key),
        "WORKER_POLL_SECONDS": "0.1",
        "MIGRATIONS": str(tmp_path),
    }


@pytest_asyncio.fixture(loop_scope="session")
async def started(
    environment: Environment, new_url: Callable[[], Awaitable[str]]
) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Starts processes on a migrated database; kills what a test left behind."""
    processes: list[Process] = []
    environment["DATABASE_URL"] = await new_url()

    async def start(command: str, **changes: str) -> Process:
        processes.append(await Process.start(command, environment | changes))
        return processes[-1]

    yield start
    for process in processes:
        if process.running.returncode is None:
            process.running.kill()
            await process.running.wait()


async def test_it_serves_both_edges_works_and_drains_on_sigterm(
    started: Callable[..., Awaitable[Process]], environment: Environment, servers: "Servers"
) -> None:
    """A request in flight is answered, then it exits with 0; nothing of a secret is in its log."""
    process = await started("serve", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert (await process.says("began"))["database"] is True
    await process.says("started")
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{environment['HTTP_PORT']}") as client:
        assert (await client.get("/livez")).text == "ok\n"
        assert (await client.get("/readyz")).json()["ready"] is True
        answer = await client.post("/ask/tea", headers={"x-correlation-id": "flow-1"})
        assert (answer.status_code, answer.headers["x-correlation-id"]) == (202, "flow-1")
        worked = await process.says("worked")
        assert (worked["correlation_id"], worked["service"], worked["password"]) == (
            "flow-1",
            "a-service",
            "[redacted]",
        )
        assert len(worked["trace_id"]) == 32
        assert "reliability_circuit_breaker_state" in (await client.get("/metrics")).text

        channel = rpc.channel(f"{HOST}:{environment['GRPC_PORT']}", servers.identity("orders"))
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=30)).status == 1
        await channel.close()

        slow = asyncio.create_task(client.get("/slow"))
        await process.says("slow_started")
        process.running.send_signal(signal.SIGTERM)
        assert (await slow).json() == {"slow": True}
    assert (await process.end())[0] == 0
    assert [line["event"] for line in process.lines if line["event"] in {"draining", "stopped"}] == [
        "draining",
        "stopped",
    ]


async def _raw(port: int, data: bytes) -> str:
    """All that a connection answers to these bytes, until the other side closes it."""
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
        writer.write(data)
        answer = (await reader.read()).decode()
    writer.close()
    return answer


SLOW_HEADERS = {
    b"": 1,
    b"POST /ask/it HTTP/1.1\r\nHost: a\r\n": 1,
    b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HT": 2,
}
SLOW_BODIES = (
    b"POST /ask/it HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow",
    b"POST /ask/it HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
)


async def test_whoever_sends_slowly_is_told_so_and_let_go(
    started: Callable[..., Awaitable[Process]], environment: Environment
) -> None:
    """No request holds a connection for longer than it may, also of a sender that no gateway stands before."""
    process = await started("serve", HEADERS_SECONDS="0.4", REQUEST_SECONDS="0.4")
    await process.says("started")
    port = int(environment["HTTP_PORT"])
    for sent, answers in SLOW_HEADERS.items():
        answer = await _raw(port, sent)
        assert answer.count("HTTP/1.1 ") == answers
        assert "HTTP/1.1 408 Request Timeout" in answer
    for sent in SLOW_BODIES:
        answer = await _raw(port, sent)
        assert answer.startswith("HTTP/1.1 408")
        assert '"code":"request_timeout"' in answer


async def test_a_worker_listens_nowhere(started: Callable[..., Awaitable[Process]], environment: Environment) -> None:
    """It works, and the ports are free."""
    process = await started("worker")
    assert (await process.says("started"))["serving"] is False
    await process.says("ticked")
    for port in ("HTTP_PORT", "GRPC_PORT"):
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection(HOST, int(environment[port]))
    process.running.send_signal(signal.SIGINT)
    assert (await process.end())[0] == 0


async def test_an_armed_crash_point_kills_it_in_the_middle(
    started: Callable[..., Awaitable[Process]], environment: Environment, tmp_path: Path
) -> None:
    """As if the power had gone: no answer, no drain, and nothing committed."""
    points = tmp_path / "points"
    points.mkdir()
    (points / "ask.nothing_done").touch()
    process = await started("serve", CRASH_POINTS=str(points))
    await process.says("started")
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{environment['HTTP_PORT']}") as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/ask/tea")
    await process.end()
    assert process.running.returncode == -signal.SIGKILL
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    assert await connection.fetchval("SELECT count(*) FROM jobs WHERE kind = 'work'") == 0
    await connection.close()


async def test_a_port_that_is_taken_ends_it(
    started: Callable[..., Awaitable[Process]], environment: Environment
) -> None:
    """It does not go on without its HTTP side."""
    async with await asyncio.start_server(lambda _r, _w: None, HOST, int(environment["HTTP_PORT"])):
        process = await started("serve")
        status, _ = await process.end()
    assert status != 0 or "draining" in {line["event"] for line in process.lines}


async def test_bad_variables_are_all_named_at_once_and_no_value_is_printed(environment: Environment) -> None:
    """Status 78, before anything is begun."""
    process = await Process.start("serve", environment | {"HTTP_PORT": "swordfish", "REDIS_URL": "", "HOST": "x"})
    status, errors = await process.end()
    assert status == 78
    assert "HTTP_PORT: " in errors
    assert "REDIS_URL: Field required" in errors
    assert "swordfish" not in errors


async def test_migrate_makes_the_tables_and_says_when_it_does_not_know_where(
    environment: Environment, servers: "Servers"
) -> None:
    """The owner's address goes before the one it runs with; migrating again changes nothing."""
    admin = await asyncpg.connect(servers.endpoints.postgres)
    await admin.execute("DROP DATABASE IF EXISTS to_migrate")
    await admin.execute("CREATE DATABASE to_migrate")
    await admin.close()
    owner = database_url(servers.endpoints.postgres, "to_migrate")
    for _ in range(2):
        process = await Process.start("migrate", environment | {"MIGRATION_DATABASE_URL": owner, "DATABASE_URL": ""})
        assert process.running.stdout is not None
        await process.running.communicate()
        assert process.running.returncode == 0
    connection = await asyncpg.connect(owner)
    assert await connection.fetchval("SELECT count(*) FROM jobs") == 0
    await connection.close()
    nowhere = await Process.start("migrate", environment | {"DATABASE_URL": ""})
    status, errors = await nowhere.end()
    assert status == 1
    assert "Set MIGRATION_DATABASE_URL" in errors
