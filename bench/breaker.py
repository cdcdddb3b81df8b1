"""What a circuit breaker costs a call that passes, in nanoseconds: `python -m bench.breaker`.

Exit status 1 when a way through a closed breaker takes longer than a microsecond. The empty loop, or the bare
`await`, that is below each of them is taken off.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from reliability.circuit_breaker import CircuitBreaker, CircuitOpen, Rules

ROUNDS = 30
BATCH = 10_000
GOAL = 1000.0

Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Way:
    """`BATCH` calls through a breaker, the same without one, and how many nanoseconds it may cost, None for any."""

    name: str
    guarded: Loop
    floor: Loop
    goal: float | None = GOAL


async def _nothing() -> None:
    pass


async def _empty() -> None:
    for _ in range(BATCH):
        pass


async def _bare() -> None:
    for _ in range(BATCH):
        await _nothing()


def ways() -> list[Way]:
    """What is measured."""
    breaker = CircuitBreaker("3 in 60 s")

    async def allow() -> None:
        for _ in range(BATCH):
            breaker.allow().success()

    async def call() -> None:
        for _ in range(BATCH):
            await breaker.call(_nothing)

    async def asynchronous() -> None:
        for _ in range(BATCH):
            async with breaker.allow():
                pass

    return [
        Way("allow() and success()", allow, _empty),
        Way("with allow()", _with(breaker), _empty),
        Way("async with allow()", asynchronous, _empty),
        Way("await call(f)", call, _bare),
        Way("with allow(), failure rate too", _with(CircuitBreaker("rate", Rules(failure_rate=0.5))), _empty),
        Way("with allow(), slow calls too", _with(CircuitBreaker("slow", Rules(slow_rate=0.5))), _empty),
        Way("refused", _refused(), _empty, None),
    ]


def _with(breaker: CircuitBreaker) -> Loop:
    async def loop() -> None:
        for _ in range(BATCH):
            with breaker.allow():
                pass

    return loop


def _refused() -> Loop:
    breaker = CircuitBreaker("forced open")
    breaker.force_open()

    async def loop() -> None:
        for _ in range(BATCH):
            with contextlib.suppress(CircuitOpen):
                breaker.allow()

    return loop


async def _nanoseconds(loop: Loop) -> float:
    started = time.perf_counter()
    await loop()
    return (time.perf_counter() - started) * 1e9 / BATCH


async def measure(way: Way) -> float:
    """The median over rounds of what the breaker adds; the two take turns, so that drift hits both."""
    await way.floor()
    await way.guarded()
    added = []
    for _ in range(ROUNDS):
        floor = await _nanoseconds(way.floor)
        added.append(await _nanoseconds(way.guarded) - floor)
    return statistics.median(added)


async def run(console: Console) -> int:
    """Measures everything and prints the table."""
    table = Table("way", "ns", "goal", title=f"what a breaker adds; medians of {ROUNDS} rounds of {BATCH}")
    missed = 0
    for way in ways():
        added = await measure(way)
        missed += way.goal is not None and added > way.goal
        table.add_row(way.name, f"{added:.0f}", "" if way.goal is None else f"<= {way.goal:.0f}")
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(Console())))
