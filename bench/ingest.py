"""What receiving a webhook costs, against a bare handler that checks the HMAC and inserts one row.

    python -m bench.ingest [--rows 5000000]

Each on uvicorn in a process of its own, before the same PostgreSQL; sixteen connections from this one. `--rows` fills
the inbox first, with events that were handled. Exit status 1 when less than 0.8 of the floor's throughput is left.

The floor takes its connections as asyncpg's documentation does, whose pool sends a second statement to put back what
the first may have set. A floor without that is shown as well: our services need none.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import asyncpg
import orjson
import uvloop
from rich.console import Console
from rich.progress import Progress

import services.payments_webhooks as package
from bench.ingest_server import FLOOR_TABLE
from bench.reliability.harness import Comparison, Contender, Floor, Role, Work, measure
from bench.reliability.report import terminal
from deploy.local.credentials import load_secrets
from deploy.local.databases import database_of, database_url, owner_of, runtime_role_of
from deploy.local.ports import HOST, pick_port_base
from deploy.local.system import System
from reliability.migrations import PARTS, migrate

BARE: Final = "the bare handler"
SWIFT: Final = "the same, no reset of its pool"
SECRET: Final = "whsec_of_the_bench"  # nosec B105 - nobody's
_NAME: Final = "payments-webhooks"
_NOWHERE: Final = f"{HOST}:1"
_AT_ONCE: Final = 16
_LEAST_SHARE: Final = 0.8
_FILL: Final = """
INSERT INTO inbox (source, event_id, event_type, object_key, body, state, correlation_id, finished_at)
SELECT 'stripe', 'evt_old_' || n, 'payment_intent.succeeded', 'pi_old_' || n, $1, 'processed', 'flow', now()
  FROM generate_series($2::int, $3::int) AS n
"""
_AT_A_TIME: Final = 100_000
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_numbers = count()


def _event() -> bytes:
    """As large as an event about an intent without its charge."""
    number = f"{os.getpid()}_{next(_numbers)}"
    intent = {"id": f"pi_{number}", "object": "payment_intent", "amount": 1500, "currency": "usd"}
    kept = {"order_id": number, "payment_id": number, "attempt": "1"}
    data = {"object": intent | {"metadata": kept, "status": "succeeded", "description": "x" * 700}}
    return orjson.dumps({"id": f"evt_{number}", "object": "event", "type": "payment_intent.succeeded", "data": data})


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body, at = _event(), int(time.time())
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    writer.write(
        b"POST /api/stripe/webhook HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n"
        b"Stripe-Signature: t=%d,v1=%b\r\nContent-Length: %d\r\n\r\n%b" % (at, digest.encode(), len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    answer = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    if int(head[9:12]) != 200:
        message = f"answered {head!r} {answer!r}"
        raise AssertionError(message)


async def _served(closing: AsyncExitStack, kind: str, environment: Mapping[str, str]) -> Work:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.ingest_server", kind, env={**os.environ, **environment}, stdout=subprocess.PIPE
    )
    closing.push_async_callback(server.wait)
    closing.callback(server.terminate)
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    connections = [await asyncio.open_connection(HOST, port) for _ in range(_AT_ONCE)]

    async def client(connection: Stream, requests: int) -> None:
        for _ in range(requests):
            await _exchange(*connection)

    async def work(times: int) -> None:
        await asyncio.gather(*(client(connection, times // _AT_ONCE) for connection in connections))

    return work


async def _database(system: System, rows: int, console: Console) -> str:
    """Payments' own, with so many old events in it; the address for the service."""
    secrets, postgres = load_secrets(system.state), system.endpoints.postgres
    owner = database_url(postgres, database_of(_NAME), owner_of(_NAME), secrets.owner_passwords[_NAME])
    if await asyncio.to_thread(migrate, owner, Path(package.__path__[0]) / "migrations", PARTS):
        raise SystemExit(1)
    connection = await asyncpg.connect(owner)
    await connection.execute(FLOOR_TABLE)
    await connection.execute(f"GRANT ALL ON floor TO {runtime_role_of(_NAME)}")
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("old events", total=rows)
        for first in range(1, rows + 1, _AT_A_TIME):
            last = min(rows, first + _AT_A_TIME - 1)
            await connection.execute(_FILL, _event(), first, last)
            progress.advance(task, last - first + 1)
    await connection.execute("ANALYZE")
    await connection.close()
    return database_url(postgres, database_of(_NAME), runtime_role_of(_NAME), secrets.runtime_passwords[_NAME])


async def run(system: System, rows: int, console: Console) -> bool:
    """Whether the goal was met."""
    tls = system.state.tls
    environment = {
        "DATABASE_URL": await _database(system, rows, console),
        "REDIS_URL": system.endpoints.redis,
        "HTTP_PORT": "1",
        "GRPC_PORT": "1",
        "STRIPE_API_KEY": "sk_test_nobody",
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "STRIPE_API_BASE": f"http://{_NOWHERE}",
        "TLS_CA_FILE": str(tls / "ca.pem"),
        "TLS_CERT_FILE": str(tls / f"{_NAME}.pem"),
        "TLS_KEY_FILE": str(tls / f"{_NAME}.key"),
        **{f"{name}_GRPC": _NOWHERE for name in ("ACCOUNTS", "ADMIN", "NOTIFICATIONS", "ORDERS")},
    }
    async with AsyncExitStack() as closing:
        comparison = Comparison(
            f"a webhook received, with {rows:,} events in the inbox",
            "Ours stores the event and its job in one statement, under the guards of every route, with its span, "
            "metric and log line; the floor checks the same signature and stores the event.",
            [
                Contender("payments", Role.OURS, await _served(closing, "ours", environment)),
                Contender(BARE, Role.FLOOR, await _served(closing, "bare", environment)),
                Contender(SWIFT, Role.FLOOR, await _served(closing, "swift", environment)),
            ],
            [Floor(BARE, 1 / _LEAST_SHARE)],
            times=800,
            rounds=20,
        )
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(comparison.title, total=comparison.rounds)
            result = await measure(comparison, partial(progress.advance, task))
    console.print(terminal(result))
    return not result.missed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.ingest", description=__doc__)
    parser.add_argument("--rows", type=int, default=0, help="old events in the inbox")
    rows = parser.parse_args().rows
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base(), only=("postgres", "valkey")) as system,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        met = runner.run(run(system, rows, Console()))
    sys.exit(0 if met else 1)
