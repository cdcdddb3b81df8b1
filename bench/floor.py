"""What a whole purchase costs a shop that promises nothing, on the same gateway, database and stand-ins.

It is the floor under what `bench.shop` measures: the parts we build on, used once each, and nothing of ours.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from typing import Final

import asyncpg
import psutil

from bench.floor_shop import FLOOR_TABLES
from bench.shop import AT_ONCE, PURCHASES, WARMING, spent_by
from deploy.local.certificates import CA_FILE
from deploy.local.credentials import load_secrets
from deploy.local.databases import database_url
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.ports import HOST
from deploy.local.system import System

__all__ = ["FLOOR_PARTS", "measure_floor"]

FLOOR_PARTS: Final = ("postgres", "stripe-sandbox", "mailbox", "gateway")
"""What has to run besides."""
_SERVICES: Final = {
    "catalog": "catalog",
    "notifications": "notifications",
    "payments": "payments-webhooks",
    "orders": "orders",
}
_VARIANTS: Final = tuple(f"v{number}" for number in range(10))


async def measure_floor(system: System) -> dict[str, float]:
    """CPU milliseconds of each server for one purchase, the most expensive first."""
    async with AsyncExitStack() as closing:
        books = await _database(system, closing)
        servers = await _servers(system, closing)
        shoppers = [Shopper(system.endpoints) for _ in range(AT_ONCE)]
        for shopper in shoppers:
            closing.push_async_callback(shopper.close)
        bought = 0

        async def settled() -> bool:
            return bool(await books.fetchval("SELECT count(*) = $1 FROM orders WHERE state = 'settled'", bought))

        async def spread(times: int) -> None:
            nonlocal bought
            bought += times
            each = (_several(shopper, place, times // AT_ONCE) for place, shopper in enumerate(shoppers))
            await asyncio.gather(*each)
            await eventually(settled, "everything to be done", seconds=120)

        await spread(WARMING)
        before = _spent(system, servers)
        await spread(PURCHASES)
        after = _spent(system, servers)
    each = {name: 1000 * (after[name] - before[name]) / PURCHASES for name in after}
    return dict(sorted(each.items(), key=lambda item: -item[1]))


async def _several(shopper: Shopper, first: int, times: int) -> None:
    for number in range(first, first + times):
        shopper.http.cookies.clear()
        (await shopper.add(_VARIANTS[number % len(_VARIANTS)], 1)).raise_for_status()
        answer = await shopper.checkout()
        answer.raise_for_status()
        (await shopper.pay(answer.json())).raise_for_status()


async def _database(system: System, closing: AsyncExitStack) -> "asyncpg.Connection[asyncpg.Record]":
    """One for all four: that costs PostgreSQL no more than four would."""
    whole = await asyncpg.connect(system.endpoints.postgres)
    await whole.execute("CREATE DATABASE floor")
    await whole.close()
    books = await asyncpg.connect(database_url(system.endpoints.postgres, "floor"))
    closing.push_async_callback(books.close)
    await books.execute(FLOOR_TABLES)
    await books.execute("INSERT INTO variants SELECT unnest($1::text[]), 1000000", _VARIANTS)
    return books


async def _servers(system: System, closing: AsyncExitStack) -> dict[str, int]:
    """The four, by name, and their processes."""
    secrets, tls = load_secrets(system.state), system.state.tls
    shared = {
        **os.environ,
        "TLS_CA_FILE": str(tls / CA_FILE),
        "DATABASE_URL": database_url(system.endpoints.postgres, "floor"),
        "STRIPE_API_BASE": system.endpoints.stripe_sandbox or "",
        "STRIPE_API_KEY": secrets.stripe_api_key,
        "STRIPE_WEBHOOK_SECRET": secrets.stripe_webhook_secret,
        "SMTP_PORT": str(system.ports.of("mailbox SMTP")),
        **{f"{part.upper()}_GRPC": f"{HOST}:{system.ports.grpc(name)}" for part, name in _SERVICES.items()},
    }
    started = {}
    for part, name in _SERVICES.items():
        own = {
            "HTTP_PORT": str(system.ports.http(name)),
            "GRPC_PORT": str(system.ports.grpc(name)),
            "TLS_CERT_FILE": str(tls / f"{name}.pem"),
            "TLS_KEY_FILE": str(tls / f"{name}.key"),
        }
        command = (sys.executable, "-m", "bench.floor_shop", part)
        server = await asyncio.create_subprocess_exec(*command, env=shared | own, stdout=PIPE)
        closing.push_async_callback(server.wait)
        closing.callback(server.terminate)
        await _ready(part, server)
        started[part] = server.pid
    shopper = Shopper(system.endpoints)
    closing.push_async_callback(shopper.close)

    async def routed() -> bool:
        return (await shopper.add(_VARIANTS[0], 1)).is_success

    await eventually(routed, "the gateway to see the shop")
    return started


async def _ready(part: str, server: Process) -> None:
    assert server.stdout is not None
    if not await server.stdout.readline():
        raise RuntimeError(f"the floor's {part} did not start")


def _spent(system: System, servers: dict[str, int]) -> dict[str, float]:
    """CPU seconds until now by server."""
    spent = spent_by(system)
    for name, pid in servers.items():
        times = psutil.Process(pid).cpu_times()
        spent[name] = times.user + times.system
    return spent
