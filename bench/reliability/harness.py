"""Measures contenders that take turns, so that whatever slows the machine slows all of them.

A round times every contender once, in an order that moves on by one each round. Ratios are taken within a round and
only then their median: a round that a neighbour disturbed is one voice of many.
"""

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Comparison", "Contender", "Cost", "Floor", "Measured", "Result", "Role", "measure", "repeated"]

Work = Callable[[int], Awaitable[object]]
"""Does the work so many times."""


class Role(Enum):
    """Why something is measured."""

    OURS = "ours"
    PEER = "peer"
    FLOOR = "floor"


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work. `before` gets things ready for so many times, untimed; `after` clears up."""

    name: str
    role: Role
    work: Work
    before: Work | None = None
    after: Work | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """Ours may take this many times as long as the named floor."""

    name: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Ours may take this many nanoseconds more than the named floor."""

    name: str
    nanoseconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same work done in several ways. The goals: faster than every peer, and not much slower than the floors.

    `about` says what is compared and what differs. `why` answers for a goal that is missed.
    """

    title: str
    about: str
    contenders: Sequence[Contender]
    goals: Sequence[Floor | Cost] = ()
    times: int = 100
    rounds: int = 40
    why: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one contender: seconds per piece of work, and how many of ours fit in one of its (below 1: it is faster)."""

    name: str
    role: Role
    seconds: float
    ratio: float
    spread: tuple[float, float]
    """The middle half of the ratios."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a comparison, and the goals in words with whether each is met."""

    comparison: Comparison
    measured: Sequence[Measured]
    goals: Sequence[tuple[str, bool]] = field(default=())

    @property
    def missed(self) -> bool:
        """Whether any goal is."""
        return not all(met for _, met in self.goals)


def repeated(step: Callable[[], Awaitable[object]]) -> Work:
    """One step after the other."""

    async def work(times: int) -> None:
        for _ in range(times):
            await step()

    return work


async def measure(comparison: Comparison, progress: Callable[[], object] = lambda: None) -> Result:
    """Every contender, `rounds` times; `progress` is called after each round."""
    contenders = list(comparison.contenders)
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for contender in contenders:  # the first time pays for connections, caches and plans
        await _timed(contender, comparison.times)
    gc.collect()
    gc.freeze()
    for round_ in range(comparison.rounds):
        turn = round_ % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            seconds[contender.name].append(await _timed(contender, comparison.times))
        progress()
    gc.unfreeze()
    return _judged(comparison, seconds)


async def _timed(contender: Contender, times: int) -> float:
    """Seconds per piece of work."""
    if contender.before is not None:
        await contender.before(times)
    started = time.perf_counter()
    await contender.work(times)
    passed = time.perf_counter() - started
    if contender.after is not None:
        await contender.after(times)
    return passed / times


def _judged(comparison: Comparison, seconds: dict[str, list[float]]) -> Result:
    (ours,) = (contender.name for contender in comparison.contenders if contender.role is Role.OURS)
    measured = []
    for contender in comparison.contenders:
        theirs = seconds[contender.name]
        ratios = [each / mine for each, mine in zip(theirs, seconds[ours], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        measured.append(Measured(contender.name, contender.role, statistics.median(theirs), middle, (low, high)))
    goals = [_goal(goal, seconds, ours) for goal in comparison.goals]
    if any(one.role is Role.PEER for one in measured):
        goals.append(("faster than every peer", all(one.ratio > 1 for one in measured if one.role is Role.PEER)))
    return Result(comparison, measured, goals)


def _goal(goal: Floor | Cost, seconds: dict[str, list[float]], ours: str) -> tuple[str, bool]:
    pairs = list(zip(seconds[ours], seconds[goal.name], strict=True))
    match goal:
        case Floor():
            ratio = statistics.median(mine / floor for mine, floor in pairs)
            return f"{ratio:.2f} x {goal.name} (<= {goal.ratio:.2f})", ratio <= goal.ratio
        case Cost():
            added = statistics.median(mine - floor for mine, floor in pairs) * 1e9
            return f"{added:.0f} ns above {goal.name} (<= {goal.nanoseconds:.0f})", added <= goal.nanoseconds
