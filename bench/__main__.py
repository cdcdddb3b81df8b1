"""What a guarded click costs in the whole system, as ratios measured in one run: `make bench`.

Everything is started by itself and thrown away: gateway, services, sandboxes, PostgreSQL, Valkey. Exit status 1 when a
goal is missed; an answer that is not the right one ends the run.
"""

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import uvloop
from rich.console import Console
from rich.progress import Progress

from bench.reliability.harness import Comparison, Contender, Floor, Role, measure, repeated
from bench.reliability.report import terminal
from bench.shop import measure_shop
from deploy.local.demo.shopper import Shopper
from deploy.local.endpoints import Endpoints
from deploy.local.ports import pick_port_base
from deploy.local.system import System

DIRECT = "straight from catalog"
FIRST = "the first click"


@dataclass(slots=True)
class Clicks:
    """Checkouts, each by a customer of its own, and the same clicks once more."""

    endpoints: Endpoints
    closing: AsyncExitStack
    ready: list[Shopper] = field(default_factory=list)
    done: list[tuple[Shopper, str, Any]] = field(default_factory=list)

    async def fill_carts(self, times: int) -> None:
        """So many customers with something in the cart."""
        for _ in range(times):
            shopper = Shopper(self.endpoints)
            self.closing.push_async_callback(shopper.close)
            chosen = await shopper.choose(at_least=1)
            (await shopper.add(chosen["variant"]["id"], 1)).raise_for_status()
            self.ready.append(shopper)

    async def first(self) -> None:
        """Prices the cart, holds the stock, makes an intent at Stripe."""
        shopper, key = self.ready.pop(), str(uuid4())
        answer = await shopper.checkout(key)
        answer.raise_for_status()
        self.done.append((shopper, key, answer.json()))

    async def again(self) -> None:
        """The same answer, whatever it had cost."""
        shopper, key, told = self.done[-1]
        answer = await shopper.checkout(key)
        if (answer.status_code, answer.json()) != (201, told):
            raise AssertionError(f"the same click was answered {answer.status_code}: {answer.text}")


def comparisons(endpoints: Endpoints, closing: AsyncExitStack) -> list[Comparison]:
    """What is compared."""
    clicks = Clicks(endpoints, closing)
    client = httpx.AsyncClient(timeout=15)
    closing.push_async_callback(client.aclose)

    async def page(base: str) -> None:
        (await client.get(f"{base}/api/products")).raise_for_status()

    return [
        Comparison(
            "a page of products through the gateway",
            "Envoy and one more socket against the service itself.",
            [
                Contender("through the gateway", Role.OURS, repeated(partial(page, endpoints.gateway))),
                Contender(DIRECT, Role.FLOOR, repeated(partial(page, endpoints.services["catalog"]["http"]))),
            ],
            [Floor(DIRECT, 2.0)],
            times=20,
            rounds=15,
        ),
        Comparison(
            "a checkout, clicked again with the same key",
            "The stored answer against an order, a hold in catalog and an intent at Stripe's stand-in.",
            [
                Contender(FIRST, Role.FLOOR, repeated(clicks.first), before=clicks.fill_carts),
                Contender("the same click again", Role.OURS, repeated(clicks.again)),
            ],
            [Floor(FIRST, 0.6)],
            times=3,
            rounds=12,
        ),
    ]


async def run(system: System, console: Console) -> bool:
    """Measures everything, prints the tables; whether every goal was met."""
    endpoints = system.endpoints
    shop = await measure_shop(system)
    console.print(f"whole purchases per server CPU second: {shop.purchases:.1f}")
    console.print(f"cart additions per server CPU second: {shop.additions:.1f}")
    console.print(f"memory of all servers: {shop.proportional:.0f} MiB, {shop.resident:.0f} MiB with what is shared")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in shop.shares.items() if share >= 0.01)
    console.print(f"a purchase's CPU: {shares}")
    missed = shop.missed()
    for each in missed:
        console.print(f"missed: {each}")
    met = not missed
    async with AsyncExitStack() as closing:
        for comparison in comparisons(endpoints, closing):
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task(comparison.title, total=comparison.rounds)
                result = await measure(comparison, partial(progress.advance, task))
            console.print(terminal(result))
            met = met and not result.missed
    return met


if __name__ == "__main__":
    console = Console()
    console.print("starting the whole system")
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base()) as system,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        met = runner.run(run(system, console))
    sys.exit(0 if met else 1)
