"""Runs jobs: claims by lease, renews while they run, and gives back what it cannot finish.

queued ──claim──> running ──complete──> done
^                 │ │
└── fail, drain, ─┘ └── last attempt failed, Park ──> parked ──redrive──> queued
lease lost
"""

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind

from reliability import telemetry
from reliability.cancellation import being_cancelled, uninterrupted
from reliability.context import correlation_scope
from reliability.deadline import deadline_scope
from reliability.errors import DeadlineExceeded, LeaseLost, Problem, Unavailable
from reliability.jobs import queue, schedules
from reliability.jobs.model import Handler, Job, Park, Run, Schedule, Snooze, StoredRun
from reliability.jobs.offer import NO_OFFER, Offer
from reliability.logging import get_logger
from reliability.postgres import Connection, Database
from reliability.retry import full_jitter, retry
from reliability.tally import Tally

__all__ = ["Worker"]

T = TypeVar("T")

_log = get_logger(__name__)
_meter = metrics.get_meter("reliability")
_outcomes = Tally("reliability.jobs.outcomes", "Finished attempts by kind and outcome", ["kind", "outcome"])
_depth = _meter.create_gauge("reliability.jobs.depth", description="Jobs by state")
_late = _meter.create_gauge(
    "reliability.schedules.late", unit="s", description="By schedule, how long its next finished run is overdue"
)
_age = _meter.create_gauge("reliability.jobs.oldest", unit="s", description="Age of the oldest due job")

LEASE: Final = 30.0
HOUSEKEEPING: Final = 10.0
DRAIN: Final = 10.0
_BACKOFF_BASE: Final = 0.5
_BACKOFF_CAP: Final = 300.0
_SETTLE_ATTEMPTS: Final = 3
# As long as Stripe goes on sending an event.
OUTAGE: Final = 3 * 24 * 3600.0
"""How many seconds a job waits for a peer that is away, whatever its `max_attempts`: it is not the job's fault."""
_LOOK_AGAIN: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A job that is being run, until when, on the loop's clock, its lease is worth renewing, and after which claim."""

    job: Job
    until: float
    claims: int


class Worker:
    """A pool of handlers over one database's jobs.

    `concurrency` jobs at once, looked for every `poll` seconds and held for `lease` seconds at a time. A drain gives
    handlers `drain` seconds to stop.
    """

    def __init__(
        self,
        database: Database,
        *,
        concurrency: int = 8,
        poll: float = 1.0,
        lease: float = LEASE,
        drain: float = DRAIN,
    ) -> None:
        self._database = database
        self._concurrency = concurrency
        self._poll = poll
        self._lease = lease
        self._drain_seconds = drain
        self._handlers: dict[str, Handler] = {}
        self._schedules: dict[str, Schedule] = {}
        self._observers: list[Callable[[], Awaitable[None]]] = []
        # By task, not by job: a job whose lease we lost may come back to us while the first run still ends.
        self._running: dict[asyncio.Task[None], _Attempt] = {}
        self._ended: dict[tuple[int, int], Job] = {}
        self._recording = asyncio.Lock()
        self._wake = asyncio.Event()
        self._more = False
        self._claims = 0
        self._offered = 0
        self._asked_for = 0
        # What jobs are begun in: nobody's deadline, span or connection. None while nothing is begun here.
        self._surroundings: contextvars.Context | None = None
        self._given_back: set[asyncio.Task[None]] = set()
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

    def observe(self, call: Callable[[], Awaitable[None]]) -> None:
        """Registers what measures something of this database, every few seconds in every worker.

        A gauge that only the worker sets which happens to run a schedule keeps, in all the others, what was true when
        it was last their turn.
        """
        self._observers.append(call)

    def offer(self, kind: str) -> Offer:
        """A free place for a job of that kind, which is about to be enqueued; without a lease when there is none.

        Nor is there one while older jobs wait for places, or a claim is on its way that may fill them all.
        """
        free = self._concurrency - len(self._running) - self._offered - self._asked_for
        if self._surroundings is None or kind not in self._handlers or self._more or free <= 0:
            return NO_OFFER
        self._offered += 1
        return Offer(self._lease, self._begin_or_give_back, self._leave)

    def _leave(self) -> None:
        self._offered -= 1
        if self._more:  # somebody was told that nothing was free
            self._wake.set()

    def _begin_or_give_back(self, job: Job) -> None:
        if self._surroundings is not None:
            self._begin(job)
            return
        # The drain has begun since the place was offered: a job that never ran is for another worker, now.
        returning = asyncio.create_task(self._settle(_give_back, job), context=contextvars.Context())
        self._given_back.add(returning)
        returning.add_done_callback(self._given_back.discard)

    async def trigger(self, name: str, *, wait: float = 5.0) -> StoredRun:
        """Runs a schedule now, on whichever worker is free, and gives the run as it stands when it is over.

        After `wait` seconds it is given unfinished. Raises `KeyError` for a schedule nobody registered.
        """
        schedule = self._schedules[name]
        async with self._database.transaction("trigger schedule") as connection:
            run_id = await schedules.trigger(connection, schedule.name)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while True:
            async with self._database.connection() as connection:
                run = await schedules.stored_run(connection, run_id)
            if run.finished_at is not None or loop.time() >= until:
                return run
            await asyncio.sleep(min(_LOOK_AGAIN, max(0.0, until - loop.time())))

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set and then drains: running jobs are cancelled and given back."""
        self.every(3600.0, "prune_jobs", self._prune)
        with telemetry.untraced():  # a task keeps the context it was made in
            keeper = asyncio.create_task(self._keep(stop))
        stopping = asyncio.create_task(self._wake_at(stop))
        self._surroundings = contextvars.copy_context()
        try:
            while not stop.is_set():
                claimed = await self._guard("claim", self._claim, default=0)
                if claimed < self._concurrency:
                    await self._wait()
        finally:
            self._surroundings = None
            stopping.cancel()
            await self._drain()
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def run_until_idle(self) -> int:
        """Runs everything that is due now, and what becomes due by it; the number of attempts made.

        For tests and one-off commands.
        """
        attempts = 0
        while True:
            await self._fire_due()
            claimed = await self._claim()
            tasks = list(self._running)
            if not claimed and not tasks:
                return attempts
            attempts += claimed
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self) -> None:
        """Until a commit in this process signals work, a slot becomes free, the poll is due or the end has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll):
                await self._wake.wait()
        self._wake.clear()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _guard(self, name: str, step: Callable[[], Awaitable[T]], default: T) -> T:
        """A worker outlives its database and its handlers' hooks: what fails now is tried again later."""
        try:
            return await step()
        except Problem as error:
            _log.warning("worker_step_failed", step=name, error=f"{type(error).__name__}: {error}")
        except Exception:  # noqa: BLE001 - a hook may raise anything, and leases must be renewed all the same
            _log.exception("worker_step_failed", step=name)
        return default

    async def _claim(self) -> int:
        free = self._concurrency - len(self._running) - self._offered
        if free <= 0 or not self._handlers:
            self._more = True
            return 0
        self._asked_for = free
        try:
            async with self._database.connection() as connection:
                jobs = await queue.claim(connection, list(self._handlers), free, self._lease)
        finally:
            self._asked_for = 0
        self._claims += 1
        self._more = len(jobs) == free
        for job in jobs:
            self._begin(job)
        return len(jobs)

    def _begin(self, job: Job) -> None:
        surroundings = self._surroundings.copy() if self._surroundings is not None else None
        task = asyncio.create_task(self._attempt(job), name=f"job:{job.kind}:{job.id}", context=surroundings)
        until = asyncio.get_running_loop().time() + self._handlers[job.kind].timeout + self._lease
        self._running[task] = _Attempt(job, until, self._claims)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        ended = self._running.pop(task)
        # What it enqueued, its commit has told. A look is worth its round trip only for what a free slot lets through,
        # or the end of this one: a job with its order key, which a claim has passed over since it began.
        if self._more or (ended.job.order_key is not None and ended.claims != self._claims):
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
            except asyncio.CancelledError as error:
                if not being_cancelled():  # raised by a closed gRPC channel, say; nobody asked this job to stop
                    await self._failed(handler, job, error)
                    return
                await self._settle(_give_back, job)
                raise
            except Snooze as snooze:
                await self._settle(functools.partial(_give_back, delay=snooze.seconds), job)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is a failed attempt
                await self._failed(handler, job, error)
            else:
                if not job.completed:
                    await uninterrupted(self._complete(job))
                _outcomes.add(job.kind, "done")

    async def _failed(self, handler: Handler, job: Job, error: BaseException) -> None:
        """Records a failed attempt. Every statement is fenced: when the lease is lost, nothing changes."""
        telemetry.mark_error(trace.get_current_span(), error)
        reason = f"{type(error).__name__}: {error}"[:500]
        away = _is_away(error) and job.age < OUTAGE
        dead = isinstance(error, Park) or (job.last_attempt and not away)
        outcome = "lease_lost" if isinstance(error, LeaseLost) else "parked" if dead else "failed"
        _outcomes.add(job.kind, outcome)
        log = _log.error if outcome == "parked" else _log.warning
        log(
            f"job_{outcome}",
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
            step = queue.wait if job.last_attempt else queue.fail
            await self._settle(lambda connection, job: step(connection, job, wait, reason), job)

    async def _settle(self, step: Callable[[Connection, Job], Awaitable[None]], job: Job) -> None:
        """Records how an attempt ended; when even that fails a few times, the lease runs out and tells."""

        async def once() -> None:
            async with self._database.transaction("settle job") as connection:
                await step(connection, job)

        async def record() -> None:
            await retry(once, retryable=_passing, attempts=_SETTLE_ATTEMPTS)

        await uninterrupted(self._guard("settle", record, default=None))

    async def _complete(self, job: Job) -> None:
        """Marks a job done whose handler did not. Those that end while one is being recorded share the next statement.

        A crash before it costs another run, which finds the work done.
        """
        self._ended[job.id, job.fence] = job
        async with self._recording:
            if (job.id, job.fence) not in self._ended:  # somebody before us took it along
                return
            ended, self._ended = self._ended, {}

            async def once() -> None:
                async with self._database.connection() as connection:
                    done = await queue.complete(connection, list(ended.values()))
                for key, each in ended.items():
                    each.completed = key in done

            async def record() -> None:
                await retry(once, retryable=_passing, attempts=_SETTLE_ATTEMPTS)

            await self._guard("settle", record, default=None)
            lost = [each.id for each in ended.values() if not each.completed]
            if lost:
                _log.warning("jobs_not_completed", jobs=lost)

    async def _park(self, connection: Connection, handler: Handler, job: Job, reason: str) -> None:
        if await queue.park(connection, job, reason) and handler.parked is not None:
            await handler.parked(connection, job, reason)

    async def _keep(self, stop: asyncio.Event) -> None:
        """Renews leases and recovers lost ones, three times per lease; fires schedules within a poll of their time."""
        if self._schedules:
            while not await self._guard("plan", self._plan, default=False):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(self._poll)
        loop = asyncio.get_running_loop()
        due = firing = loop.time()
        while not stop.is_set():
            if loop.time() >= due:
                due = loop.time() + min(self._lease / 3, HOUSEKEEPING)
                await self._guard("heartbeat", self._heartbeat, default=None)
                await self._guard("recover", self._recover, default=None)
                for observe in (self._observe, *self._observers):
                    await self._guard("observe", observe, default=None)
            if loop.time() >= firing:
                firing = loop.time() + await self._guard("fire", self._fire_due, default=self._poll)
            await asyncio.sleep(max(0.0, min(due, firing) - loop.time()))

    async def _plan(self) -> bool:
        async with self._database.transaction("plan schedules") as connection:
            await schedules.plan(connection, list(self._schedules))
        return True

    async def _heartbeat(self) -> None:
        # A handler that is deaf to its timeout keeps its slot, not its job: another worker shall have that.
        now = asyncio.get_running_loop().time()
        held = {task: attempt.job for task, attempt in self._running.items() if attempt.until > now}
        if not held:
            return
        async with self._database.connection() as connection:
            ours = await queue.heartbeat(connection, list(held.values()), self._lease)
        for task, job in held.items():
            if (job.id, job.fence) not in ours and not job.completed:
                task.cancel()

    async def _recover(self) -> None:
        async with self._database.transaction("recover leases") as connection:
            dead = await queue.recover(connection, list(self._handlers))
        for job in dead:  # each by itself: a hook that fails must not hold up the others
            await self._guard("park lost job", functools.partial(self._bury, job), default=None)
        self._wake.set()

    async def _bury(self, job: Job) -> None:
        handler = self._handlers.get(job.kind)
        with (
            correlation_scope(job.correlation_id),
            telemetry.span(f"park {job.kind}", parent={}, links=telemetry.link_to(job.trace)),
        ):
            async with self._database.transaction("park lost job") as connection:
                if not await queue.park_lost(connection, job):
                    return
                if handler and handler.parked:
                    await handler.parked(connection, job, queue.LOST)
            _log.error("job_parked", job=job.id, kind=job.kind, attempt=job.attempt, error=queue.LOST)

    async def _observe(self) -> None:
        async with self._database.connection() as connection:
            queued, running, age = await queue.depth(connection)
            dead = await queue.count_dead_letters(connection)
            late = await schedules.lateness(connection, {each.name: each.every for each in self._schedules.values()})
        for name, seconds in late.items():
            _late.set(seconds, {"schedule": name})
        _depth.set(queued, {"state": "queued"})
        _depth.set(running, {"state": "running"})
        _depth.set(dead, {"state": "parked"})
        _age.set(age)

    async def _fire_due(self) -> float:
        """Fires what is due; the seconds until it is worth another look.

        Other workers only move a next run away. What else may change it, an operator or a clock, is seen then.
        """
        if not self._schedules:
            return HOUSEKEEPING
        async with self._database.connection() as connection:
            if await schedules.fire(connection, {each.name: each.every for each in self._schedules.values()}):
                self._wake.set()
            next_run = await schedules.next_run(connection, self._schedules)
        return min(max(next_run, self._poll), HOUSEKEEPING)

    async def _run_schedule(self, job: Job) -> None:
        run_id = job.payload["run_id"]
        async with self._database.transaction("start run") as connection:
            await schedules.start_run(connection, run_id)
        schedule = self._schedules[job.kind.removeprefix("schedule:")]
        run = await schedule.call(schedules.scheduled_for(job.payload))
        async with self._database.transaction("finish run") as connection:
            await schedules.finish_run(connection, run_id, run.processed, run.failed)
            await job.complete(connection)

    async def _prune(self, _scheduled_for: datetime) -> Run:
        processed = 0
        while True:
            async with self._database.transaction("prune jobs") as connection:
                deleted = await queue.prune(connection) + await schedules.prune_runs(connection)
            processed += deleted
            if not deleted:
                return Run(processed)

    async def _drain(self) -> None:
        await asyncio.sleep(0)  # a task that is cancelled before its first step never gives its job back
        if not self._running:
            return
        for task in self._running:
            task.cancel()
        _, deaf = await asyncio.wait(list(self._running), timeout=self._drain_seconds)
        for task in deaf:
            _log.error("job_ignores_drain", task=task.get_name())


def _is_away(error: BaseException) -> bool:
    """Whether a peer is away, by its own word or by ours: a database, a service, Stripe."""
    return isinstance(error, Problem) and error.status in {503, 504}


def _passing(error: Exception) -> bool:
    return isinstance(error, Unavailable | DeadlineExceeded)


async def _give_back(connection: Connection, job: Job, delay: float = 0.0) -> None:
    """An attempt that was cancelled or came too early was nobody's fault and is not counted."""
    await queue.give_back(connection, job, delay)
