"""A guarded POST against the same handler with one bare Redis call: how much of the throughput is left."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any

import orjson
import redis.asyncio
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

__all__ = ["comparisons"]

BARE = "the handler with one redis-py SET"
AT_ONCE = 16
PER_CLIENT = Policy("orders", 1_000_000, 900)
Message = MutableMapping[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
_numbers = count()


async def comparisons(stage: Stage) -> list[Comparison]:
    """Sixty percent of the throughput: at most 1.67 times as long."""
    return [
        Comparison(
            "POST: limit, dedup, correlation, deadline, errors, shedding, telemetry",
            f"Both called in process, {AT_ONCE} requests at once, no sockets but Valkey's. The floor parses the same "
            "body and stores it with one SET. Spans are sampled at 10 %, metrics and a log line are written for each.",
            [
                Contender("the handler guarded", Role.OURS, _clients(_guarded(stage.cache()))),
                Contender(BARE, Role.FLOOR, _clients(_bare(stage.client()))),
            ],
            [Floor(BARE, 1 / 0.6)],
            times=320,
        )
    ]


def _bare(client: redis.asyncio.Redis) -> App:
    async def post(request: Request) -> JSONResponse:
        order = await request.json()
        await client.set(order["id"], "stored", ex=60)
        return JSONResponse({"id": order["id"]}, 201)

    return Router([Route("/orders", post, methods=["POST"])])


def _guarded(cache: Cache) -> App:
    limiter = RateLimiter(cache)

    async def post(request: Request) -> JSONResponse:
        fields = await limiter.check([(PER_CLIENT, "192.0.2.1")])
        order = await request.json()
        async with deduplicate(cache, "order", order):
            return JSONResponse({"id": order["id"]}, 201, fields)

    return Edge(Router([Route("/orders", post, methods=["POST"])]), bulkhead=Bulkhead("requests", limit=256))


def _clients(app: App) -> Work:
    async def client(requests: int) -> None:
        for _ in range(requests):
            await _request(app)

    async def work(times: int) -> None:
        await asyncio.gather(*(client(times // AT_ONCE) for _ in range(AT_ONCE)))

    return work


async def _request(app: App) -> None:
    body = orjson.dumps({"id": f"order-{next(_numbers)}", "lines": [{"sku": "tea", "quantity": 2}]})
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(_scope(len(body)), receive, send)
    if status != 201:
        raise AssertionError(f"answered {status}")


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
            (b"accept", b"*/*"),
            (b"user-agent", b"bench"),
        ],
        "client": ("192.0.2.1", 443),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
