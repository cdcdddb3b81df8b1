"""A call through a closed breaker."""

import aiobreaker
import circuitbreaker
import purgatory
import pybreaker

from bench.reliability.harness import Comparison, Contender, Cost, Role
from bench.reliability.stage import Stage, named
from reliability.circuit_breaker import CircuitBreaker, Rules

__all__ = ["comparisons"]

TIMES = 5_000
BARE = "no breaker"
EMPTY = "an empty loop"


async def _nothing() -> None:
    pass


async def _bare(times: int) -> None:
    for _ in range(times):
        await _nothing()


async def _empty(times: int) -> None:
    for _ in range(times):
        pass


async def comparisons(_stage: Stage) -> list[Comparison]:
    """Against the peers, and each of our ways through against nothing."""
    ours = CircuitBreaker("3 in 60 s")
    peers = [await _purgatory(), _circuitbreaker(), _aiobreaker(), _pybreaker()]

    async def call(times: int) -> None:
        for _ in range(times):
            await ours.call(_nothing)

    return [
        Comparison(
            "breaker: await a coroutine through a closed breaker",
            "Every breaker in memory, closed, with its defaults, the call awaited as its documentation awaits one. "
            "Only ours and purgatory mind concurrent probes; pybreaker is for threads, so that its block is used.",
            [Contender("CircuitBreaker.call", Role.OURS, call), *peers, Contender(BARE, Role.FLOOR, _bare)],
            [Cost(BARE, 1000)],
            times=TIMES,
        ),
        _way("with allow()", CircuitBreaker("block")),
        _way("with allow(), failure rate too", CircuitBreaker("rate", Rules(failure_rate=0.5))),
        _way("with allow(), slow calls too", CircuitBreaker("slow", Rules(slow_rate=0.5))),
    ]


def _way(name: str, breaker: CircuitBreaker) -> Comparison:
    async def block(times: int) -> None:
        for _ in range(times):
            with breaker.allow():
                pass

    return Comparison(
        f"breaker: {name}",
        "What the block adds to an empty loop.",
        [Contender(name, Role.OURS, block), Contender(EMPTY, Role.FLOOR, _empty)],
        [Cost(EMPTY, 1000)],
        times=TIMES,
    )


async def _purgatory() -> Contender:
    breaker = await purgatory.AsyncCircuitBreakerFactory().get_breaker("bench")

    async def work(times: int) -> None:
        for _ in range(times):
            async with breaker:
                await _nothing()

    return Contender(named("purgatory"), Role.PEER, work)


def _circuitbreaker() -> Contender:
    guarded = circuitbreaker.CircuitBreaker()(_nothing)

    async def work(times: int) -> None:
        for _ in range(times):
            await guarded()

    return Contender(named("circuitbreaker"), Role.PEER, work)


def _aiobreaker() -> Contender:
    breaker = aiobreaker.CircuitBreaker()

    async def work(times: int) -> None:
        for _ in range(times):
            await breaker.call_async(_nothing)

    return Contender(named("aiobreaker"), Role.PEER, work)


def _pybreaker() -> Contender:
    breaker = pybreaker.CircuitBreaker()

    async def work(times: int) -> None:
        for _ in range(times):
            with breaker.calling():
                await _nothing()

    return Contender(named("pybreaker"), Role.PEER, work)
