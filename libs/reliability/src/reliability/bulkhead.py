"""Load shedding: so much at once, a few more in a waiting room, and 503 for the rest while answering still works.

Without a limit every request is accepted and none is finished in time. The same class is the bulkhead around one
dependency: when that is slow, it drowns its own compartment and not the ship.
"""

import asyncio
import weakref
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from types import TracebackType
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from reliability import deadline
from reliability.errors import Unavailable

__all__ = ["Bulkhead", "Overloaded", "Priority"]

DEPENDENCY_LIMIT: Final = 64
_PATIENCE: Final = 0.5
# Of the time that is left: whoever waits longer gets an answer nobody waits for any more.
_SHARE: Final = 0.25


class Overloaded(Unavailable):
    """Refused before anything was done. The answer is `unavailable` with the seconds to stay away."""


class Priority(IntEnum):
    """Who leaves the waiting room first, and last is sent away."""

    FIRST = 0
    """What others wait for or send only a few times: webhooks, calls of our own services."""
    NORMAL = 1


Waiting = dict["asyncio.Future[bool]", None]


class Bulkhead:
    """`limit` holders at once. Belongs to one event loop.

    `waiting` more wait, in order of priority and arrival, for `patience` seconds or a quarter of their deadline.
    A permit that is given back goes to whoever waits, so that nobody can slip in before. Who is sent away is told to
    come back after `retry_after` seconds. Raises `ValueError` for a limit below 1.
    """

    def __init__(
        self,
        name: str,
        *,
        limit: int = DEPENDENCY_LIMIT,
        waiting: int | None = None,
        patience: float = _PATIENCE,
        retry_after: float = 1.0,
    ) -> None:
        if limit < 1:
            raise ValueError("a bulkhead needs a limit of at least 1")
        self.name = name
        self._limit = limit
        self._room = limit if waiting is None else waiting
        self._patience = patience
        self._retry_after = retry_after
        self._active = 0
        self._lanes: dict[Priority, Waiting] = {priority: {} for priority in Priority}
        _all.add(self)

    @property
    def active(self) -> int:
        """Permits in use."""
        return self._active

    @property
    def waiting(self) -> int:
        """Those in the waiting room."""
        return sum(map(len, self._lanes.values()))

    def permit(self, priority: Priority = Priority.NORMAL) -> AbstractAsyncContextManager[None]:
        """Holds a permit around the block. Raises `Overloaded`."""
        return _Permit(self, priority)

    async def acquire(self, priority: Priority = Priority.NORMAL) -> None:
        """Takes a permit, which must be given back by `release()`. Raises `Overloaded`."""
        if self._active < self._limit:  # then nobody waits: see `release`
            self._active += 1
            return
        seconds = min(self._patience, deadline.remaining(self._patience / _SHARE) * _SHARE)
        if seconds <= 0 or not self._make_room(priority):
            raise self._refusal("full", priority)
        await self._wait(priority, seconds)

    def release(self) -> None:
        """Gives a permit back: to the first who waits, else for whoever comes."""
        for lane in self._lanes.values():
            while lane:
                ticket = next(iter(lane))
                del lane[ticket]
                if not ticket.done():  # else cancelled a moment ago, and not there to take it
                    ticket.set_result(True)
                    return
        self._active -= 1

    async def _wait(self, priority: Priority, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        ticket: asyncio.Future[bool] = loop.create_future()
        lane = self._lanes[priority]
        lane[ticket] = None
        bell = loop.call_later(seconds, _send_away, ticket)
        try:
            admitted = await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.result():
                self.release()  # it was called in at the very moment it left
            raise
        finally:
            bell.cancel()
            lane.pop(ticket, None)
        if not admitted:
            raise self._refusal("waited", priority)

    def _make_room(self, priority: Priority) -> bool:
        """Whether there is a place; for the first one is made, at the cost of the newest of the others."""
        if self.waiting < self._room:
            return True
        for lower in reversed(Priority):
            if lower <= priority:
                break
            lane = self._lanes[lower]
            while lane:
                ticket, _ = lane.popitem()
                if not ticket.done():
                    ticket.set_result(False)
                    return True
        return False

    def _refusal(self, reason: str, priority: Priority) -> Overloaded:
        _refused.add(1, {"bulkhead": self.name, "reason": reason, "priority": priority.name.lower()})
        return Overloaded(
            "Too much is asked of us at the moment; try again in a moment.", retry_after=self._retry_after
        )


class _Permit:
    """By hand: around every call, where a generator costs four times as much."""

    __slots__ = ("_bulkhead", "_priority")

    def __init__(self, bulkhead: Bulkhead, priority: Priority) -> None:
        self._bulkhead, self._priority = bulkhead, priority

    async def __aenter__(self) -> None:
        await self._bulkhead.acquire(self._priority)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bulkhead.release()


def _send_away(ticket: "asyncio.Future[bool]") -> None:
    if not ticket.done():
        ticket.set_result(False)


_all: "weakref.WeakSet[Bulkhead]" = weakref.WeakSet()


def _observe_active(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(each.active, {"bulkhead": each.name}) for each in tuple(_all)]


def _observe_waiting(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(each.waiting, {"bulkhead": each.name}) for each in tuple(_all)]


_meter = metrics.get_meter("reliability")
_meter.create_observable_gauge("reliability.bulkhead.active", [_observe_active], description="Permits in use")
_meter.create_observable_gauge("reliability.bulkhead.waiting", [_observe_waiting], description="In the waiting room")
_refused = _meter.create_counter("reliability.bulkhead.refused", description="Sent away, by bulkhead and reason")
