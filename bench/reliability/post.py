"""A guarded POST against the same handler with one bare Redis call: how much of the throughput is left."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any

import orjson
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from bench.reliability.harness import Comparison, Contender, Floor, Role, Work
from bench.reliability.stage import Stage
from reliability.asgi import Edge
from reliability.bulkhead import Bulkhead
from reliability.dedup import deduplicate
from reliability.rate_limit import Policy, RateLimiter
from reliability.redis import Cache

__all__ = ["bare", "comparisons", "guarded"]

BARE = "the handler with one redis-py SET"
GUARDED = "the handler guarded"
AT_ONCE = 16
PER_CLIENT = Policy("orders", 1_000_000, 900)
Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_numbers = count()
_ABOUT = (
    "The floor parses the same body and stores it with one SET. Guarded, the same handler has a limit, a dedup, a "
    "correlation id, a deadline, load shedding, the error mapping, a span sampled at 10 %, a metric and a log line."
)


async def comparisons(stage: Stage) -> list[Comparison]:
    """Sixty percent of the throughput: at most 1.67 times as long."""
    return [
        Comparison(
            "POST: guarded, on uvicorn",
            f"{_ABOUT} Each on uvicorn in a process of its own; {AT_ONCE} connections from this one.",
            [
                Contender(GUARDED, Role.OURS, await _served(stage, "guarded")),
                Contender(BARE, Role.FLOOR, await _served(stage, "bare")),
            ],
            [Floor(BARE, 1 / 0.6)],
            times=800,
            why="Half of what the edge adds are a span and a log line as OpenTelemetry's SDK and structlog make them.",
        ),
        Comparison(
            "POST: guarded, without a server",
            f"{_ABOUT} Both called in process, {AT_ONCE} at once: no HTTP is parsed and only Valkey's socket written, "
            "so that nothing hides what the guards cost.",
            [
                Contender(GUARDED, Role.OURS, _called(guarded(stage.cache()))),
                Contender(BARE, Role.FLOOR, _called(bare(stage.client()))),
            ],
            times=800,
        ),
    ]


def bare(client: Redis) -> App:
    """The floor."""

    async def post(request: Request) -> JSONResponse:
        order = await request.json()
        await client.set(order["id"], "stored", ex=60)
        return JSONResponse({"id": order["id"]}, 201)

    return Router([Route("/orders", post, methods=["POST"])])


def guarded(cache: Cache) -> App:
    """The same handler, as a service has it."""
    limiter = RateLimiter(cache)

    async def post(request: Request) -> JSONResponse:
        fields = await limiter.check([(PER_CLIENT, "192.0.2.1")])
        order = await request.json()
        async with deduplicate(cache, "order", order):
            return JSONResponse({"id": order["id"]}, 201, fields)

    return Edge(Router([Route("/orders", post, methods=["POST"])]), bulkhead=Bulkhead("requests", limit=256))


def _body() -> bytes:
    number = f"{os.getpid()}-{next(_numbers)}"
    return orjson.dumps({"id": f"order-{number}", "lines": [{"sku": "tea", "quantity": 2}]})


def _accepted(status: int) -> None:
    if status != 201:
        raise AssertionError(f"answered {status}")


async def _served(stage: Stage, name: str) -> Work:
    environment = {**os.environ, "REDIS_URL": stage.redis}
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.reliability.serve", name, env=environment, stdout=subprocess.PIPE
    )
    stage.closing.push_async_callback(server.wait)
    stage.closing.callback(server.terminate)
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(AT_ONCE)]

    async def client(connection: Stream, requests: int) -> None:
        for _ in range(requests):
            await _exchange(*connection)

    async def work(times: int) -> None:
        await asyncio.gather(*(client(connection, times // AT_ONCE) for connection in connections))

    return work


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = _body()
    writer.write(
        b"POST /orders HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    _accepted(int(head[9:12]))


def _called(app: App) -> Work:
    async def client(requests: int) -> None:
        for _ in range(requests):
            await _call(app)

    async def work(times: int) -> None:
        await asyncio.gather(*(client(times // AT_ONCE) for _ in range(AT_ONCE)))

    return work


async def _call(app: App) -> None:
    body = _body()
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(_scope(len(body)), receive, send)
    _accepted(status)


def _scope(length: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/orders",
        "raw_path": b"/orders",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"shop.example"),
            (b"content-type", b"application/json"),
            (b"content-length", str(length).encode()),
        ],
        "client": ("192.0.2.1", 443),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
