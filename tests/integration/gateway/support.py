"""A real Envoy with one small server behind each cluster."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reliability.asgi import SECURITY_HEADERS

HOST = "127.0.0.1"
LIMIT = 1_048_576
PLACEHOLDERS = {
    "catalog": "CATALOG",
    "orders": "ORDERS",
    "payments-webhooks": "PAYMENTS",
    "notifications": "NOTIFICATIONS",
    "accounts": "ACCOUNTS",
    "admin": "ADMIN",
}


@dataclass(slots=True)
class Request:
    """What arrived behind the gateway."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class Upstream:
    """A service as the gateway sees it: tells who it is; `x-test` orders it to hang or to hang up."""

    name: str
    requests: list[Request] = field(default_factory=list)
    spans: list[tuple[str, Any]] = field(default_factory=list)
    server: asyncio.Server | None = None
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._connection, HOST, self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        await self.server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(await _read(reader), writer):
                    pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        body, status = json.dumps({"service": self.name, "bytes": len(request.body)}).encode(), 200
        own = ""
        if request.target == "/v1/traces":
            self._keep(request.body)
        elif request.target != "/readyz":
            self.requests.append(request)
            match request.values("x-test"):
                case ["hang"]:
                    await asyncio.sleep(60)
                case ["hang-up"]:
                    return False
                case ["unavailable"]:
                    status = 503
                case ["page"]:
                    own = "content-security-policy: default-src 'self'\r\n"
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nx-correlation-id: forged-by-service\r\n"
            f"content-type: application/json\r\n{own}\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        return True

    def _keep(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.spans += [(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]


async def _read(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    fields = dict(headers)
    body = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Request(method, target, headers, body)


@dataclass(slots=True)
class Gateway:
    """A running Envoy and what stands behind it."""

    client: httpx.AsyncClient
    port: int
    upstreams: dict[str, Upstream]
    log: Path

    async def raw(self, data: bytes) -> str:
        """The answer to bytes that no client library would send."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(data)
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length: ")[2].partition("\r")[0])
            body = (await reader.readexactly(length)).decode()
        writer.close()
        return head + body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Polls what another process brings about."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def answers(client: httpx.AsyncClient, path: str, status: int) -> bool:
    with suppress(httpx.TransportError):
        return (await client.get(path)).status_code == status
    return False


def environment(upstreams: dict[str, Upstream], port: int, admin_port: int) -> dict[str, str]:
    given = {"GATEWAY_HOST": HOST, "GATEWAY_PORT": str(port), "ADMIN_PORT": str(admin_port)}
    given |= {"ROUTE_TIMEOUT": "1s", "BODY_TIMEOUT": "0.5s", "HEADERS_TIMEOUT": "0.5s"}
    given |= {"HEALTHY_INTERVAL": "0.1s", "HEALTH_INTERVAL": "0.1s"}
    for name, upstream in upstreams.items():
        given |= {f"{PLACEHOLDERS[name]}_HTTP_HOST": HOST, f"{PLACEHOLDERS[name]}_HTTP_PORT": str(upstream.port)}
    return given


async def logged(gateway: Gateway, correlation: str) -> str:
    """The line that the gateway writes of the one request with this correlation id."""

    async def written() -> bool:
        return correlation in gateway.log.read_text()

    await eventually(written)
    (line,) = [line for line in gateway.log.read_text().splitlines() if correlation in line]
    return line


@asynccontextmanager
async def envoy(configuration: Path, log: Path) -> AsyncIterator[None]:
    binary = Path(sys.executable).parent / "envoy"
    options = ("--disable-hot-restart", "--concurrency", "1", "-l", "error", "--file-flush-interval-msec", "200")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            binary, "-c", configuration, *options, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """RFC 9457, with our members, and with the security headers that services give: each once."""
    assert {name: answer.headers.get_list(name) for name, _ in SECURITY_HEADERS} == {
        name: [value] for name, value in SECURITY_HEADERS
    }
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "correlation_id"}
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:holdfast:problem:{code}")
    assert problem["correlation_id"] == answer.headers["x-correlation-id"] != ""
