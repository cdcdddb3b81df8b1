"""Runs jobs: claims by lease, renews while they run, and gives back what it cannot finish.

queued ──claim──> running ──complete──> done
^                 │ │
└── fail, drain, ─┘ └── last attempt failed, Park ──> parked ──redrive──> queued
lease lost
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

import asyncpg
from opentelemetry import metrics
from opentelemetry.trace import SpanKind

from reliability import telemetry
from reliability.context import correlation_scope
from reliability.deadline import deadline_scope
from reliability.errors import LeaseLost, Problem
from reliability.jobs import queue
from reliability.jobs.model import Handler, Job, Park, Run, Schedule, Snooze
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.retry import full_jitter

__all__ = ["Worker"]

T = TypeVar("T")

_log = get_logger(__name__)
_meter = metrics.get_meter("reliability")
_outcomes = _meter.create_counter("reliability.jobs.outcomes", description="Finished attempts by kind and outcome")
_depth = _meter.create_gauge("reliability.jobs.depth", description="Jobs by state")
_age = _meter.create_gauge("reliability.jobs.oldest", unit="s", description="Age of the oldest due job")

LEASE: Final = 30.0
HOUSEKEEPING: Final = 10.0
_BACKOFF_BASE: Final = 0.5
_BACKOFF_CAP: Final = 300.0


class Worker:
    """A pool of handlers over one database's jobs."""

    def __init__(self, database: Database, *, concurrency: int = 8, poll: float = 1.0, lease: float = LEASE) -> None:
        self._database = database
        self._concurrency = concurrency
        self._poll = poll
        self._lease = lease
        self._handlers: dict[str, Handler] = {}
        self._schedules: dict[str, Schedule] = {}
        self._running: dict[int, tuple[Job, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        database.listen(queue.SIGNAL, self._wake.set)

    def handle(
        self,
        kind: str,
        call: Callable[[Job], Awaitable[None]],
        *,
        timeout: float = 30.0,
        parked: Callable[[Connection, Job, str], Awaitable[None]] | None = None,
    ) -> None:
        """Registers the handler of a kind.

        It gets `timeout` seconds. `parked` runs in the transaction that makes a job a dead letter.
        """
        self._handlers[kind] = Handler(kind, call, timeout, parked)

    def every(self, seconds: float, name: str, call: Callable[[datetime], Awaitable[Run]]) -> None:
        """Registers a schedule: one worker of all fires it, and each run is stored in `job_runs`."""
        self._schedules[name] = Schedule(name, seconds, call)
        self.handle(f"schedule:{name}", self._run_schedule, timeout=max(60.0, seconds))

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set and then drains: running jobs are cancelled and given back."""
        self.every(3600.0, "prune_jobs", self._prune)
        with telemetry.untraced():  # a task keeps the context it was made in
            keeper = asyncio.create_task(self._keep(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                claimed = await self._guard(self._claim, default=0)
                if claimed < self._concurrency:
                    await self._wait(stopping)
        finally:
            keeper.cancel()
            stopping.cancel()
            await self._drain()

    async def run_until_idle(self) -> int:
        """Runs everything that is due now, and what becomes due by it; the number of attempts made.

        For tests and one-off commands.
        """
        attempts = 0
        while True:
            await self._fire_due()
            claimed = await self._claim()
            tasks = [task for _, task in self._running.values()]
            if not claimed and not tasks:
                return attempts
            attempts += claimed
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, stopping: "asyncio.Task[bool]") -> None:
        """Until a commit in this process signals work, a slot becomes free, or the poll is due."""
        waking = asyncio.create_task(self._wake.wait())
        await asyncio.wait({stopping, waking}, timeout=self._poll, return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()
        self._wake.clear()

    async def _guard(self, step: Callable[[], Awaitable[T]], default: T) -> T:
        """A worker outlives its database: what fails now is tried again at the next poll."""
        try:
            return await step()
        except (Problem, asyncpg.PostgresError, OSError) as error:
            _log.warning("worker_step_failed", step=step.__name__, error=str(error))
            return default

    async def _claim(self) -> int:
        free = self._concurrency - len(self._running)
        if free <= 0 or not self._handlers:
            return 0
        async with self._database.connection() as connection:
            jobs = await queue.claim(connection, list(self._handlers), free, self._lease)
        for job in jobs:
            task = asyncio.create_task(self._attempt(job), name=f"job:{job.kind}:{job.id}")
            self._running[job.id] = (job, task)
            task.add_done_callback(functools.partial(self._finished, job.id))
        return len(jobs)

    def _finished(self, job_id: int, _task: "asyncio.Task[None]") -> None:
        self._running.pop(job_id, None)
        self._wake.set()

    async def _attempt(self, job: Job) -> None:
        handler = self._handlers[job.kind]
        with (
            correlation_scope(job.correlation_id),
            telemetry.span(
                f"job {job.kind}",
                SpanKind.CONSUMER,
                parent={},
                links=telemetry.link_to(job.trace),
                job_attempt=job.attempt,
            ),
        ):
            try:
                async with asyncio.timeout(handler.timeout):
                    with deadline_scope(handler.timeout):
                        await handler.call(job)
                await self._settle(self._complete, job)
                _outcomes.add(1, {"kind": job.kind, "outcome": "done"})
            except asyncio.CancelledError:
                await self._settle(_give_back, job)
                raise
            except Snooze as snooze:
                await self._settle(functools.partial(_give_back, delay=snooze.seconds), job)
            except LeaseLost:
                _outcomes.add(1, {"kind": job.kind, "outcome": "lease_lost"})
                _log.warning("job_lease_lost", job=job.id, kind=job.kind)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is a failed attempt
                await self._failed(handler, job, error)

    async def _failed(self, handler: Handler, job: Job, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:500]
        dead = job.last_attempt or isinstance(error, Park)
        _outcomes.add(1, {"kind": job.kind, "outcome": "parked" if dead else "failed"})
        log = _log.error if dead else _log.warning
        log(
            "job_parked" if dead else "job_failed",
            job=job.id,
            kind=job.kind,
            attempt=job.attempt,
            error=reason,
            exc_info=None if isinstance(error, Problem | Park) else error,
        )
        if dead:
            await self._settle(lambda connection, job: self._park(connection, handler, job, reason), job)
        else:
            wait = full_jitter(job.attempt, base=_BACKOFF_BASE, cap=_BACKOFF_CAP)
            if isinstance(error, Problem) and error.retry_after:
                wait = max(wait, error.retry_after)
            await self._settle(lambda connection, job: queue.fail(connection, job, wait, reason), job)

    async def _settle(self, step: Callable[[Connection, Job], Awaitable[None]], job: Job) -> None:
        """Records how an attempt ended; when even that fails, the lease runs out and tells."""
        if job.completed:
            return

        async def record() -> None:
            async with self._database.transaction("settle job") as connection:
                await step(connection, job)

        await asyncio.shield(asyncio.create_task(self._guard(record, default=None)))

    async def _complete(self, connection: Connection, job: Job) -> None:
        await job.complete(connection)

    async def _park(self, connection: Connection, handler: Handler, job: Job, reason: str) -> None:
        if await queue.park(connection, job, reason) and handler.parked is not None:
            await handler.parked(connection, job, reason)

    async def _keep(self, stop: asyncio.Event) -> None:
        """Renews leases and recovers lost ones, three times per lease; fires schedules at each poll."""
        if self._schedules:
            while not await self._guard(self._plan, default=False):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(self._poll)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not stop.is_set():
            if loop.time() >= due:
                due = loop.time() + min(self._lease / 3, HOUSEKEEPING)
                await self._guard(self._heartbeat, default=None)
                await self._guard(self._recover, default=None)
                await self._guard(self._observe, default=None)
            await self._guard(self._fire_due, default=None)
            await asyncio.sleep(self._poll)

    async def _plan(self) -> bool:
        async with self._database.transaction("plan schedules") as connection:
            await queue.plan(connection, list(self._schedules))
        return True

    async def _heartbeat(self) -> None:
        held = [job for job, _ in self._running.values()]
        if not held:
            return
        async with self._database.connection() as connection:
            ours = await queue.heartbeat(connection, held, self._lease)
        for job in held:
            if job.id not in ours and job.id in self._running and not job.completed:
                self._running[job.id][1].cancel()

    async def _recover(self) -> None:
        async with self._database.transaction("recover leases") as connection:
            for job, reason in await queue.recover(connection):
                _log.error("job_parked", job=job.id, kind=job.kind, attempt=job.attempt, error=reason)
                handler = self._handlers.get(job.kind)
                if handler and handler.parked:
                    await handler.parked(connection, job, reason)
        self._wake.set()

    async def _observe(self) -> None:
        async with self._database.connection() as connection:
            queued, running, age = await queue.depth(connection)
        _depth.set(queued, {"state": "queued"})
        _depth.set(running, {"state": "running"})
        _age.set(age)

    async def _fire_due(self) -> None:
        for schedule in self._schedules.values():
            async with self._database.transaction("fire schedule") as connection:
                if await queue.fire(connection, schedule.name, schedule.every):
                    self._wake.set()

    async def _run_schedule(self, job: Job) -> None:
        run_id = job.payload["run_id"]
        async with self._database.transaction("start run") as connection:
            await queue.start_run(connection, run_id)
        schedule = self._schedules[job.kind.removeprefix("schedule:")]
        run = await schedule.call(queue.scheduled_for(job.payload))
        async with self._database.transaction("finish run") as connection:
            await queue.finish_run(connection, run_id, run.processed, run.failed)
            await job.complete(connection)

    async def _prune(self, _scheduled_for: datetime) -> Run:
        processed = 0
        while True:
            async with self._database.transaction("prune jobs") as connection:
                deleted = await queue.prune(connection)
            processed += deleted
            if not deleted:
                return Run(processed)

    async def _drain(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _give_back(connection: Connection, job: Job, delay: float = 0.0) -> None:
    """An attempt that was cancelled or came too early was nobody's fault and is not counted."""
    await queue.give_back(connection, job, delay)
