"""What purchases and carts cost all servers together: CPU seconds and memory, whatever the machine's speed.

Counted are all our processes, the gateway, PostgreSQL and Valkey, with what they do when nobody asks; the stand-ins for
Stripe and the mail server are not ours, and neither is the customer. Everything is asked for through the gateway by
eight customers at once, each with something else in mind.

- A *whole purchase* is one piece put into a new cart, the checkout, the payment at Stripe, its webhooks, the stock
  taken and the confirmation handed to the mail server.
- A *cart addition* puts one piece into a cart that is there, one of ten products in turn: what the word means where
  other shops are measured.
- An *opened cart* is a guest's first piece, which makes the cart.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import psutil

from deploy.local.databases import database_of, database_url
from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.ports import SERVICES
from deploy.local.system import System

__all__ = [
    "ADDITION",
    "AT_ONCE",
    "IDLE",
    "OPENING",
    "PURCHASE",
    "PURCHASES",
    "WARMING",
    "Figures",
    "measure_shop",
    "spent_by",
]

PURCHASE: Final = "whole purchase"
ADDITION: Final = "cart addition"
OPENING: Final = "opened cart"
IDLE: Final = "second of doing nothing"

_OUTSIDE: Final = {"stripe-sandbox", "mailbox"}
AT_ONCE: Final = 8
# Each connection plans each statement anew five times before it keeps a plan. All are one address, which may place 300
# orders at once.
WARMING: Final = 96
PURCHASES: Final = 240
_ADDITIONS: Final = 800
_PRODUCTS: Final = 10
_IDLE_SECONDS: Final = 5.0
# Until the processes have ended that PostgreSQL had for those who looked.
_LEAVING_SECONDS: Final = 1.0
_MIB: Final = 1024 * 1024
# One index each: with a million orders, looking must not cost what it looks for.
_LEFT: Final = """
SELECT count(*) FROM (SELECT kind FROM jobs WHERE state = 'queued'
                      UNION ALL SELECT kind FROM jobs WHERE state = 'running') AS unfinished
 WHERE kind NOT LIKE 'schedule:%'
"""
Act = Callable[[Shopper, Sequence[str], int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU seconds of each server, by what they were spent on, and how often that was done; memory in MiB."""

    spent: dict[str, dict[str, float]]
    times: dict[str, int]
    proportional: float
    resident: float

    def rate(self, what: str) -> float:
        """How much of it a CPU second of all servers does."""
        return self.times[what] / sum(self.spent[what].values())

    def split(self, what: str) -> dict[str, float]:
        """Milliseconds of each server for one of it, the most expensive first."""
        each = {name: 1000 * seconds / self.times[what] for name, seconds in self.spent[what].items()}
        return dict(sorted(each.items(), key=lambda item: -item[1]))

    def missed(self) -> list[str]:
        """What falls short of the goals, in words; that of purchases is set by a floor (`bench.floor`)."""
        goals = (
            ("cart additions per server CPU second", self.rate(ADDITION), 480.0, True),
            ("MiB of memory", self.proportional, 700.0, False),
        )
        return [
            f"{name}: {value:.1f}, the goal is {goal:.0f}"
            for name, value, goal, more in goals
            if (value < goal if more else value > goal)
        ]


async def measure_shop(system: System) -> Figures:
    """Buys and fills carts after a round that warms everything up."""
    async with AsyncExitStack() as closing:
        looking = [await _looker(system, name, closing) for name in SERVICES]

        observer = Observer(system.endpoints, system.state.logs)
        mails = len(await observer.messages())

        async def done() -> bool:
            return not any([await each.fetchval(_LEFT) for each in looking])

        async def idle() -> bool:
            # On its way from one service to the next a purchase is in nobody's books: its mail tells that it has come.
            return await done() and len(await observer.messages()) >= mails and await done()

        shoppers = []
        for _ in range(AT_ONCE):
            shoppers.append(Shopper(system.endpoints))
            closing.push_async_callback(shoppers[-1].close)
        variants = await _products(system)

        async def spread(times: int, act: Act) -> None:
            nonlocal mails

            async def several(shopper: Shopper, first: int) -> None:
                mine = [*variants[first:], *variants[:first]]
                for number in range(times // AT_ONCE):
                    await act(shopper, mine, number)

            mails += times if act is _buy else 0
            await asyncio.gather(*(several(shopper, place) for place, shopper in enumerate(shoppers)))
            await eventually(idle, "everything to be done", seconds=120)

        spent: dict[str, dict[str, float]] = {}
        await spread(WARMING, _buy)
        await spread(WARMING, _add)
        for what, often, act in (
            (PURCHASE, PURCHASES, _buy),
            (OPENING, _ADDITIONS, _open),
            (ADDITION, _ADDITIONS, _add),
        ):
            before = spent_by(system)
            await spread(often, act)
            spent[what] = _difference(before, spent_by(system))
        before = spent_by(system)
        await asyncio.sleep(_IDLE_SECONDS)
        spent[IDLE] = _difference(before, spent_by(system))
    await asyncio.sleep(_LEAVING_SECONDS)
    proportional, resident = _memory(system)
    times = {PURCHASE: PURCHASES, OPENING: _ADDITIONS, ADDITION: _ADDITIONS, IDLE: int(_IDLE_SECONDS)}
    return Figures(spent, times, proportional, resident)


async def _buy(shopper: Shopper, variants: Sequence[str], number: int) -> None:
    await _open(shopper, variants, number)
    answer = await shopper.checkout()
    answer.raise_for_status()
    (await shopper.pay(answer.json())).raise_for_status()


async def _open(shopper: Shopper, variants: Sequence[str], number: int) -> None:
    shopper.http.cookies.clear()
    await _add(shopper, variants, number)


async def _add(shopper: Shopper, variants: Sequence[str], number: int) -> None:
    (await shopper.add(variants[number % _PRODUCTS], 1)).raise_for_status()


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in after}


async def _looker(system: System, name: str, closing: AsyncExitStack) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection for all looks: making one costs the server as much as a purchase's statements."""
    connection = await asyncpg.connect(database_url(system.endpoints.postgres, database_of(name)))
    closing.push_async_callback(connection.close)
    return connection


async def _products(system: System) -> list[str]:
    """As many as there are customers and more, on shelves that do not run empty."""
    observer = Observer(system.endpoints, system.state.logs)
    rows = await observer.rows("catalog", "UPDATE variants SET on_hand = on_hand + 1000000 RETURNING id::text, sku")
    return [str(row["id"]) for row in sorted(rows, key=lambda row: row["sku"])][: max(AT_ONCE, _PRODUCTS)]


def _servers(system: System) -> Iterator[tuple[str, psutil.Process]]:
    """Whatever each server has started, and then its process."""
    for name in system.processes:
        if name not in _OUTSIDE:
            process = psutil.Process(system.pid(name))
            for child in process.children(recursive=True):
                yield name, child
            yield name, process


def spent_by(system: System) -> dict[str, float]:
    """CPU seconds until now by server, those of children that have ended included."""
    spent: dict[str, float] = {}
    for name, process in _servers(system):
        with suppress(psutil.NoSuchProcess):  # a connection of PostgreSQL's that was closed: its server knows the sum
            times: Any = process.cpu_times()
            spent[name] = spent.get(name, 0.0) + times.user + times.system + times.children_user + times.children_system
    return spent


def _memory(system: System) -> tuple[float, float]:
    """MiB: pages that are shared counted once, and counted for each who has them."""
    proportional = resident = 0
    for _, process in _servers(system):
        with suppress(psutil.NoSuchProcess):
            whole: Any = process.memory_full_info()
            proportional, resident = proportional + whole.pss, resident + whole.rss
    return proportional / _MIB, resident / _MIB
