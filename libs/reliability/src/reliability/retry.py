"""Full-jitter backoff and retries that stop at the deadline."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from reliability import deadline
from reliability.errors import Problem

__all__ = ["full_jitter", "retry"]

T = TypeVar("T")


def full_jitter(
    attempt: int, *, base: float, cap: float, uniform: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1): `uniform(0, min(cap, base * 2**(n-1)))`.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return uniform(0.0, min(cap, base * 2.0 ** min(attempt - 1, 62)))


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    retryable: Callable[[Exception], bool],
    attempts: int = 3,
    base: float = 0.05,
    cap: float = 2.0,
    budget: float = deadline.EXTERNAL_CAP,
) -> T:
    """`call()` until it succeeds, `attempts` times at most; the last error is raised as it was.

    A `Problem` that names its own `retry_after` is obeyed. No attempt starts that cannot begin before
    the deadline; all of them share `budget` seconds, which the call finds as its deadline.
    """
    with deadline.deadline_scope(budget):  # of all attempts together: a budget for each would add up
        for attempt in range(1, attempts + 1):
            try:
                return await call()
            except Exception as error:
                if attempt == attempts or not retryable(error):
                    raise
                asked = error.retry_after if isinstance(error, Problem) and error.retry_after else 0.0
                wait = max(asked, full_jitter(attempt, base=base, cap=cap))
                if wait >= deadline.remaining(budget):
                    raise
                await asyncio.sleep(wait)
    message = "attempts must be at least 1"
    raise ValueError(message)
