"""What a guarded click costs in the whole system, as ratios measured in one run: `make bench`.

    python -m bench [--orders 1000000]

Everything is started by itself and thrown away: gateway, services, sandboxes, PostgreSQL, Valkey. With `--orders` the
shop is measured once more with so many orders in the books. Before and after, a shop that promises nothing is
measured: the floor under what a purchase costs. Exit status 1 when a goal is missed; an answer that is not
the right one ends the run.
"""

import argparse
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

from bench.fill import fill
from bench.floor import FLOOR_PARTS, measure_floor
from bench.reliability.harness import Comparison, Contender, Floor, Role, measure, repeated
from bench.reliability.report import terminal
from bench.shop import ADDITION, IDLE, OPENING, PURCHASE, Figures, measure_shop
from deploy.local.demo.shopper import Shopper
from deploy.local.endpoints import Endpoints
from deploy.local.ports import pick_port_base
from deploy.local.system import System

DIRECT = "straight from catalog"
FIRST = "the first click"
_MOST_GROWTH = 1.5
_LEAST_SHARE = 0.5


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


def _tell(figures: Figures, console: Console) -> None:
    for what in (PURCHASE, ADDITION, OPENING):
        shares = ", ".join(f"{name} {value:.2f}" for name, value in figures.split(what).items() if value >= 0.005)
        console.print(f"{figures.rate(what):.1f} per server CPU second: {what}. Milliseconds: {shares}", soft_wrap=True)
    idle = figures.split(IDLE)
    console.print(f"{sum(idle.values()):.0f} ms of CPU a second when nobody asks for anything")
    console.print(
        f"{figures.proportional:.0f} MiB of memory, {figures.resident:.0f} with shared pages counted each time"
    )


def floor(console: Console) -> float:
    """Purchases per CPU second of a shop that promises nothing."""
    console.print("starting a shop that promises nothing")
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base(), only=FLOOR_PARTS) as system,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        split = runner.run(measure_floor(system))
    rate = 1000 / sum(split.values())
    shares = ", ".join(f"{name} {value:.2f}" for name, value in split.items() if value >= 0.005)
    console.print(f"{rate:.1f} per server CPU second: its purchase. Milliseconds: {shares}", soft_wrap=True)
    return rate


async def run(system: System, orders: int, console: Console) -> tuple[float, bool]:
    """Measures everything, prints the tables; purchases per CPU second, and whether every goal was met."""
    endpoints = system.endpoints
    shop = await measure_shop(system)
    _tell(shop, console)
    missed = shop.missed()
    if orders:
        await fill(system, orders, console)
        console.print(f"with {orders:,} orders in the books:")
        full = await measure_shop(system)
        _tell(full, console)
        for what in (PURCHASE, ADDITION):
            ratio = shop.rate(what) / full.rate(what)
            console.print(f"a {what} costs {ratio:.2f} times what it costs without them")
            if ratio > _MOST_GROWTH:
                missed.append(f"{what}: {ratio:.2f} times what it costs without old orders, the goal is {_MOST_GROWTH}")
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
    return shop.rate(PURCHASE), met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--orders", type=int, default=0, help="old orders, for a second look at the shop")
    old = parser.parse_args().orders
    console = Console()
    before = floor(console)
    console.print("starting the whole system")
    with (
        tempfile.TemporaryDirectory() as state,
        System(Path(state) / "state", pick_port_base()) as system,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        purchases, met = runner.run(run(system, old, console))
    # A machine is not as fast all the time: before and after.
    share = 2 * purchases / (before + floor(console))
    console.print(f"our purchases are {share:.2f} of that shop's, the goal is {_LEAST_SHARE}")
    sys.exit(0 if met and share >= _LEAST_SHARE else 1)
