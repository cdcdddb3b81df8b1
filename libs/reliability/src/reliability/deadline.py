"""One absolute deadline per request, shared by every step below it.

A timeout per call adds up: three calls of 8 s make 24 s. A deadline does not. Each step takes what is left,
but never more than the cap of its kind: 8 s for somebody else's API, 10 s for the database, 2 s for the cache.
"""

import asyncio
import math
import time
from contextvars import ContextVar
from types import TracebackType

from reliability.context import Scope
from reliability.errors import DeadlineExceeded

__all__ = ["CACHE_CAP", "DATABASE_CAP", "EXTERNAL_CAP", "deadline_scope", "extra_time", "limit", "remaining", "sleep"]

EXTERNAL_CAP = 8.0
"""Seconds a call to another service or API may take."""
DATABASE_CAP = 10.0
"""Seconds a transaction may take."""
CACHE_CAP = 2.0
"""Seconds a call to Redis may take."""

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def remaining(cap: float) -> float:
    """Seconds this step may take: what the request has left, `cap` at most, never below zero."""
    instant = _deadline.get()
    return cap if instant is None else max(0.0, min(cap, instant - time.monotonic()))


def deadline_scope(seconds: float | None) -> Scope[float | None]:
    """Gives the block `seconds` from now, or less when an outer deadline ends sooner.

    `None` leaves the deadline as it is.
    """
    outer = _deadline.get()
    if seconds is None:
        return Scope(_deadline, outer)
    instant = time.monotonic() + seconds
    return Scope(_deadline, instant if outer is None else min(outer, instant))


def extra_time(seconds: float) -> Scope[float | None]:
    """Gives the block `seconds` of its own, also when the deadline has passed.

    For giving back what is held, which is most needed when time is up.
    """
    return Scope(_deadline, time.monotonic() + seconds)


class limit:  # noqa: N801 - used as a function is
    """Ends the block at the deadline or after `cap` seconds and names the step that ran out of time.

    Yields the seconds granted. Raises `DeadlineExceeded`, before the block when nothing is left, and `RuntimeError`
    outside of a task.
    """

    __slots__ = ("_alarm", "_cancelling", "_cap", "_late", "_step", "_task")

    def __init__(self, cap: float, step: str) -> None:
        self._cap, self._step = cap, step

    # As `asyncio.timeout` does it, which would ask for a second object and two more coroutines.
    async def __aenter__(self) -> float:
        seconds = remaining(self._cap)
        if seconds <= 0:
            raise DeadlineExceeded(self._step)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be given a limit")
        self._task, self._cancelling, self._late = task, task.cancelling(), False
        self._alarm = task.get_loop().call_later(seconds, self._ring)
        return seconds

    def _ring(self) -> None:
        self._late = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        if not self._late:  # a TimeoutError from within (a socket's own) is the step's business, not the deadline's
            return
        ours = self._task.uncancel() <= self._cancelling  # nobody else wants it to end
        if isinstance(error, TimeoutError) or (ours and kind is asyncio.CancelledError):
            raise DeadlineExceeded(self._step) from None


async def sleep(seconds: float, step: str = "sleep") -> None:
    """Sleeps, or raises `DeadlineExceeded` at once when the deadline would pass before it is over."""
    if remaining(math.inf) < seconds:
        raise DeadlineExceeded(step)
    await asyncio.sleep(seconds)
