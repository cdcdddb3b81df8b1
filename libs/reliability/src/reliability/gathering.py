"""Events that come while others are being stored share the next statement: in a burst, one commit for many.

Nobody waits for company: an event is stored by itself as long as there are few. None is answered before the statement
that stores it is committed, and whatever ends that statement is the answer of each that was in it.
"""

import asyncio
import contextvars
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from reliability import inbox
from reliability.context import correlation_id
from reliability.inbox import Gathered, Received
from reliability.jobs import Worker
from reliability.postgres import Database
from reliability.telemetry import carrier

__all__ = ["Gatherer"]

# A statement that waits, for another process that stores the same event, must not be what everybody waits for.
_AT_ONCE: Final = 2
_MOST: Final = 64
# The server, or asyncpg before it, does not take what a statement says.
_REFUSED: Final = (asyncpg.PostgresError, asyncpg.DataError)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event that waits for the next statement, and who waits for what becomes of it."""

    gathered: Gathered
    outcome: "asyncio.Future[str | None]"


class Gatherer:
    """Receives events of one kind of job for a process. The job begins at once when `worker` has a place for it."""

    def __init__(self, database: Database, worker: Worker, *, job: str, max_attempts: int = 12) -> None:
        self._database = database
        self._worker = worker
        self._job = job
        self._max_attempts = max_attempts
        self._under_way = 0
        self._waiting: list[_Waiting] = []
        self._storing: set[asyncio.Task[None]] = set()

    async def receive(self, event: Received) -> str | None:
        """What `inbox.receive` does; it raises the same, and what `Database.connection` does."""
        if self._under_way < _AT_ONCE:
            self._under_way += 1
            try:
                return await self._alone(event)
            finally:
                self._next()
        outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(Gathered(event, correlation_id(), carrier()), outcome))
        return await outcome

    async def _alone(self, event: Received) -> str | None:
        async with self._database.connection() as connection:
            with self._worker.offer(self._job) as offer:
                return await inbox.receive(
                    connection, event, job=self._job, offer=offer, max_attempts=self._max_attempts
                )

    def _next(self) -> None:
        """A statement has ended. Those that have come meanwhile are the next one, but for who left."""
        self._under_way -= 1
        waiting = [each for each in self._waiting if not each.outcome.done()]
        batch, self._waiting = waiting[:_MOST], waiting[_MOST:]
        if batch:
            self._under_way += 1
            # In nobody's surroundings: the one whose statement ended may be out of time, or go away.
            storing = asyncio.create_task(self._store(batch), context=contextvars.Context())
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)

    async def _store(self, batch: list[_Waiting]) -> None:
        outcomes: list[Any]
        try:
            try:
                outcomes = list(await self._together([each.gathered for each in batch]))
            except _REFUSED:  # for the sake of one of them, which the others shall not have to answer for
                outcomes = [await self._by_itself(each.gathered) for each in batch]
        except BaseException as error:
            _answer(batch, [error] * len(batch))
            if not isinstance(error, Exception):
                raise
        else:
            _answer(batch, outcomes)
        finally:
            self._next()

    async def _by_itself(self, event: Gathered) -> str | Exception | None:
        try:
            return (await self._together([event]))[0]
        except Exception as error:  # noqa: BLE001 - it is the answer of whoever brought the event
            return error

    async def _together(self, events: list[Gathered]) -> list[str | None]:
        async with self._database.connection() as connection:
            return await inbox.receive_many(connection, events, job=self._job, max_attempts=self._max_attempts)


def _answer(batch: list[_Waiting], outcomes: list[Any]) -> None:
    for each, outcome in zip(batch, outcomes, strict=True):
        if each.outcome.done():  # cancelled: its client has gone, and what was stored stays stored
            continue
        if isinstance(outcome, BaseException):
            each.outcome.set_exception(outcome)
        else:
            each.outcome.set_result(outcome)
