"""What purchases and carts cost all servers together: CPU seconds and memory, whatever the machine's speed.

Counted are all our processes, the gateway, PostgreSQL and Valkey; the stand-ins for Stripe and the mail server are not
ours, and neither is the customer. A *whole purchase* is one piece put into a new cart, the checkout, the payment at
Stripe, its webhooks, the stock taken and the confirmation handed to the mail server.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import psutil

from deploy.local.demo.observe import Observer
from deploy.local.demo.shopper import Shopper, eventually
from deploy.local.ports import SERVICES
from deploy.local.system import System

__all__ = ["Figures", "measure_shop"]

_OUTSIDE: Final = {"stripe-sandbox", "mailbox"}
_AT_ONCE: Final = 8
_PURCHASES: Final = 96
_ADDITIONS: Final = 800
_MIB: Final = 1024 * 1024
_LEFT: Final = """
SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND kind <> 'expire_order' AND kind NOT LIKE 'schedule:%'
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Per second of CPU of all servers; seconds and MiB. `shares` says who spends how much of a purchase."""

    purchases: float
    additions: float
    proportional: float
    resident: float
    shares: dict[str, float]

    def missed(self) -> list[str]:
        """What falls short of the goals, in words."""
        goals = (
            ("purchases per server CPU second", self.purchases, 65.0, True),
            ("cart additions per server CPU second", self.additions, 480.0, True),
            ("MiB of memory", self.proportional, 700.0, False),
        )
        return [
            f"{name}: {value:.1f}, the goal is {goal:.0f}"
            for name, value, goal, more in goals
            if (value < goal if more else value > goal)
        ]


async def measure_shop(system: System) -> Figures:
    """Buys and fills carts, eight customers at once, after a round that warms everything up."""
    observer = Observer(system.endpoints, system.state.logs)
    async with AsyncExitStack() as closing:
        shoppers = []
        for _ in range(_AT_ONCE):
            shoppers.append(Shopper(system.endpoints))
            closing.push_async_callback(shoppers[-1].close)
        chosen = [str((await shopper.choose(at_least=1))["variant"]["id"]) for shopper in shoppers]
        await _plenty(system)

        async def buy(shopper: Shopper, variant: str) -> None:
            shopper.http.cookies.clear()
            (await shopper.add(variant, 1)).raise_for_status()
            answer = await shopper.checkout()
            answer.raise_for_status()
            (await shopper.pay(answer.json())).raise_for_status()

        async def add(shopper: Shopper, variant: str) -> None:
            shopper.http.cookies.clear()
            (await shopper.add(variant, 1)).raise_for_status()

        async def spread(times: int, act: Callable[[Shopper, str], Awaitable[None]]) -> None:
            async def several(shopper: Shopper, variant: str) -> None:
                for _ in range(times // _AT_ONCE):
                    await act(shopper, variant)

            await asyncio.gather(*(several(*each) for each in zip(shoppers, chosen, strict=True)))

        async def idle() -> bool:
            return not any([await observer.value(name, _LEFT) for name in SERVICES])

        await spread(_AT_ONCE, buy)
        await eventually(idle, "the first purchases", seconds=60)
        before = _spent(system)
        await spread(_ADDITIONS, add)
        between = _spent(system)
        await spread(_PURCHASES, buy)
        await eventually(idle, "every purchase to be whole", seconds=120)
        after = _spent(system)
        proportional, resident = _memory(system)
    of_purchases = {name: after[name] - between[name] for name in after}
    whole = sum(of_purchases.values())
    return Figures(
        purchases=_PURCHASES / whole,
        additions=_ADDITIONS / (sum(between.values()) - sum(before.values())),
        proportional=proportional,
        resident=resident,
        shares={name: value / whole for name, value in sorted(of_purchases.items(), key=lambda each: -each[1])},
    )


async def _plenty(system: System) -> None:
    """Shelves that do not run empty."""
    observer = Observer(system.endpoints, system.state.logs)
    await observer.rows("catalog", "UPDATE variants SET on_hand = on_hand + 1000000 RETURNING id")


def _servers(system: System) -> Iterator[tuple[str, psutil.Process]]:
    """Each server's process and whatever it has started."""
    for name in system.processes:
        if name not in _OUTSIDE:
            process = psutil.Process(system.pid(name))
            yield name, process
            for child in process.children(recursive=True):
                yield name, child


def _spent(system: System) -> dict[str, float]:
    """CPU seconds until now by server, those of children that have ended included."""
    spent: dict[str, float] = {}
    for name, process in _servers(system):
        times: Any = process.cpu_times()
        spent[name] = spent.get(name, 0.0) + times.user + times.system + times.children_user + times.children_system
    return spent


def _memory(system: System) -> tuple[float, float]:
    """MiB: pages that are shared counted once, and counted for each who has them."""
    proportional = resident = 0
    for _, process in _servers(system):
        whole: Any = process.memory_full_info()
        proportional, resident = proportional + whole.pss, resident + whole.rss
    return proportional / _MIB, resident / _MIB
