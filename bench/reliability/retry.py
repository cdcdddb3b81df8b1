"""A call that succeeds at once, which is what nearly all of them do."""

import stamina
import tenacity

from bench.reliability.harness import Comparison, Contender, Role, repeated
from bench.reliability.stage import Stage, named
from reliability.retry import RetryBudget, retry

__all__ = ["comparisons"]

ATTEMPTS = 3


async def _nothing() -> None:
    pass


async def comparisons(_stage: Stage) -> list[Comparison]:
    """Ours against the peers."""
    budget = RetryBudget()
    with_tenacity = tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS), wait=tenacity.wait_random_exponential(0.05, 2)
    )(_nothing)
    with_stamina = stamina.retry(on=OSError, attempts=ATTEMPTS)(_nothing)

    async def ours() -> None:
        await retry(_nothing, budget=budget)

    async def bounded() -> None:
        await retry(_nothing, budget=budget, step="bench")

    return [
        Comparison(
            "retry: a coroutine that succeeds at once",
            "Three attempts, full jitter (stamina: exponential with jitter). Ours also gives the call one deadline for "
            "all attempts, keeps a retry budget and tells the layers below which attempt this is.",
            [
                Contender("retry", Role.OURS, repeated(ours)),
                Contender(named("tenacity"), Role.PEER, repeated(with_tenacity)),
                Contender(named("stamina"), Role.PEER, repeated(with_stamina)),
                Contender("retry, each attempt timed out at the deadline", Role.FLOOR, repeated(bounded)),
                Contender("no retry", Role.FLOOR, repeated(_nothing)),
            ],
            times=2_000,
        )
    ]
