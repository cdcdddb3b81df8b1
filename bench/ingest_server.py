"""One of the receivers of `bench.ingest`, on uvicorn as services are: `python -m bench.ingest_server bare|swift|ours`.

The environment is that of the payments service. Prints its port and serves until it is terminated. No worker runs
here: what is received is handled afterwards, and what that costs is not the sender's to wait for.
"""

import asyncio
import hashlib
import hmac
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import asyncpg
import orjson
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from bench.reliability.telemetry import observed_as_services_are
from reliability.runtime import Runtime
from reliability.server import settle
from reliability.settings import load
from reliability.slow_headers import impatient
from services.payments_webhooks.app import build
from services.payments_webhooks.settings import PaymentsSettings

__all__ = ["FLOOR_TABLE"]

FLOOR_TABLE: Final = """
CREATE TABLE floor (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    text        NOT NULL UNIQUE,
    body        bytea       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
)
"""
_INSERT: Final = "INSERT INTO floor (event_id, body) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_TOLERANCE: Final = 300
_KEEP_ALIVE: Final = 75
App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


def bare(pool: "asyncpg.Pool[asyncpg.Record]", secret: bytes) -> App:
    """The floor: the signature checked, one row stored."""

    async def receive(request: Request) -> JSONResponse:
        body = await request.body()
        parts = dict(part.split("=", 1) for part in request.headers["stripe-signature"].split(","))
        expected = hmac.new(secret, f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, parts["v1"]) or abs(time.time() - int(parts["t"])) > _TOLERANCE:
            return JSONResponse({"received": False}, 400)
        await pool.execute(_INSERT, orjson.loads(body)["id"], body)
        return JSONResponse({"received": True})

    return Router([Route("/api/stripe/webhook", receive, methods=["POST"])])


async def _as_it_is(connection: Any) -> None:
    """For a connection that is given back: asyncpg's own way costs it a round trip."""


async def _serve(kind: str) -> None:
    settings = load(PaymentsSettings)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if kind == "ours":
            runtime = Runtime("payments-webhooks", settings)
            edge: Any = build(runtime).asgi(
                runtime.readiness,
                request_seconds=settings.request_seconds,
                bulkhead=runtime.bulkhead,
                perimeter=runtime.perimeter,
            )
            await _run(listening, edge, impatient(settings.headers_seconds))
            await runtime.close()
            return
        # As many connections as the service has.
        size, reset = settings.database_pool_size, _as_it_is if kind == "swift" else None
        async with asyncpg.create_pool(str(settings.database_url), min_size=size, max_size=size, reset=reset) as pool:
            await _run(listening, bare(pool, settings.webhook_secrets()[0].encode()), "auto")


async def _run(listening: socket.socket, app: Any, http: Any) -> None:
    settle()  # of a service this is a part of its start
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app,
        http=http,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
    )
    await uvicorn.Server(config).serve([listening])


if __name__ == "__main__":
    os.environ.setdefault("LOG_LEVEL", "info")
    with observed_as_services_are(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))
