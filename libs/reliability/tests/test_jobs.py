"""Jobs: committed with their cause, run until done, owned by one worker at a time."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from reliability import jobs
from reliability.context import correlation_id, correlation_scope
from reliability.errors import Conflict, DeadlineExceeded, LeaseLost, Problem, Unavailable
from reliability.jobs import Job, NewJob, Park, Run, Snooze, Worker, queue
from reliability.postgres import Connection, Database


async def rows(database: Database) -> list[dict[str, object]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch("SELECT * FROM jobs ORDER BY id")]


async def put(database: Database, kind: str = "work", **options: object) -> bool:
    async with database.transaction() as connection:
        return await jobs.enqueue(connection, kind, {"n": 1}, **options)  # type: ignore[arg-type]


async def make_due(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE jobs SET run_at = now() WHERE state = 'queued'")


async def expire_leases(database: Database, seconds: int = 1) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE jobs SET lease_until = now() - $1 * interval '1 second' WHERE state = 'running'", seconds
        )


async def nothing(_job: Job) -> None:
    """A handler that is done at once."""


def working(database: Database, kind: str = "work", call: Callable[[Job], Awaitable[None]] = nothing) -> Worker:
    """A worker that knows one kind."""
    worker = Worker(database)
    worker.handle(kind, call)
    return worker


async def test_a_rolled_back_transaction_takes_its_job_along(database: Database) -> None:
    """The job vanishes with the change that caused it."""
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await jobs.enqueue(connection, "work", {})
            raise ZeroDivisionError
    assert await rows(database) == []


async def test_a_used_key_is_not_accepted_again_even_after_completion(database: Database) -> None:
    """The unique key outlives the job, and refusing it does not poison the transaction."""
    worker = Worker(database)
    worker.handle("work", lambda _job: asyncio.sleep(0))
    assert await put(database, unique_key="once")
    await worker.run_until_idle()
    async with database.transaction() as connection:
        assert not await jobs.enqueue(connection, "work", {}, unique_key="once")
        several = [jobs.NewJob("work", {}, unique_key=key) for key in ("once", "twice", "twice")]
        assert len(await jobs.enqueue_many(connection, several)) == 1
        assert await connection.fetchval("SELECT 1") == 1
    assert [row["state"] for row in await rows(database)] == ["done", "queued"]


async def test_a_crash_counts_as_an_attempt_and_the_last_one_parks(database: Database) -> None:
    """A job that kills its worker each time ends as a dead letter instead of coming back for ever."""
    await put(database, max_attempts=3)
    for _ in range(3):
        async with database.transaction() as connection:
            assert len(await queue.claim(connection, ["work"], 10, 30.0)) == 1
        await expire_leases(database)
        await working(database)._recover()
    (row,) = await rows(database)
    assert (row["state"], row["attempt"]) == ("parked", 3)


async def test_a_dead_letter_is_buried_by_a_worker_that_knows_its_hook(database: Database) -> None:
    """While a version is rolled out some do not; of a kind that none knows it is buried without one, an hour later."""
    told: list[str] = []

    async def parked(_connection: Connection, job: Job, _reason: str) -> None:
        told.append(job.kind)

    worker, older = Worker(database), working(database, "older")
    worker.handle("work", lambda _job: asyncio.sleep(0), parked=parked)
    for kind in ("work", "forgotten"):
        await put(database, kind, max_attempts=1)
    async with database.transaction() as connection:
        assert len(await queue.claim(connection, ["work", "forgotten"], 10, 30.0)) == 2
    await expire_leases(database)
    await older._recover()
    assert [row["state"] for row in await rows(database)] == ["running", "running"]
    await worker._recover()
    assert [row["state"] for row in await rows(database)] == ["parked", "running"]
    await expire_leases(database, seconds=3601)
    await older._recover()
    assert [row["state"] for row in await rows(database)] == ["parked", "parked"]
    assert told == ["work"]


async def test_a_handler_in_its_last_transaction_costs_no_other_job_its_lease(database: Database) -> None:
    """It has completed its job and not committed yet: the heartbeat does not stand in line behind it."""
    completed, leave = asyncio.Event(), asyncio.Event()

    async def handle(job: Job) -> None:
        if job.attempt == job.max_attempts:
            async with database.transaction() as connection:
                await job.complete(connection)
                completed.set()
                await leave.wait()
        await leave.wait()

    worker = working(database, call=handle)
    await put(database, max_attempts=1)
    await put(database)
    running = asyncio.create_task(worker.run_until_idle())
    await completed.wait()
    completing, other = await rows(database)
    await worker._heartbeat()
    renewed = await rows(database)
    assert renewed[0]["lease_until"] == completing["lease_until"]
    assert renewed[1]["lease_until"] > other["lease_until"]  # type: ignore[operator]
    leave.set()
    await running
    assert [row["state"] for row in await rows(database)] == ["done", "done"]


async def test_a_stale_worker_cannot_complete_what_another_one_owns(database: Database) -> None:
    """The fence of the first claim is worth nothing after the second, and its effect rolls back."""
    await put(database)
    async with database.transaction() as connection:
        (stale,) = await queue.claim(connection, ["work"], 1, 30.0)
    await expire_leases(database)
    async with database.transaction() as connection:
        await queue.recover(connection, ["work"])
        (owner,) = await queue.claim(connection, ["work"], 1, 30.0)
        await connection.execute("CREATE TABLE effects (n int)")
    with pytest.raises(LeaseLost):
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO effects VALUES (1)")
            await stale.complete(connection)
    async with database.transaction() as connection:
        await owner.complete(connection)
        assert await connection.fetchval("SELECT count(*) FROM effects") == 0


async def test_no_two_workers_claim_the_same_job(database: Database) -> None:
    """Twenty claimers at once share a hundred jobs without overlap."""
    async with database.transaction() as connection:
        await jobs.enqueue_many(connection, [NewJob("work") for _ in range(100)])

    async def claim() -> list[int]:
        async with database.transaction() as connection:
            return [job.id for job in await queue.claim(connection, ["work"], 10, 30.0)]

    claimed = [job for batch in await asyncio.gather(*(claim() for _ in range(20))) for job in batch]
    assert len(claimed) == len(set(claimed)) == 100


async def test_jobs_of_one_order_key_run_one_after_the_other(database: Database) -> None:
    """The second job of a key starts when the first is done, other keys do not wait."""
    async with database.transaction() as connection:
        await jobs.enqueue_many(connection, [NewJob("work", {"n": n}, order_key="k") for n in range(3)])
        await jobs.enqueue_many(connection, [NewJob("work", {"n": 9})])
    seen: list[int] = []
    running = 0

    async def handle(job: Job) -> None:
        nonlocal running
        if job.payload["n"] != 9:
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1
        seen.append(job.payload["n"])

    worker = Worker(database)
    worker.handle("work", handle)
    await worker.run_until_idle()
    assert [n for n in seen if n != 9] == [0, 1, 2]
    assert 9 in seen


async def test_cancellation_gives_the_lease_back_and_is_not_counted(database: Database) -> None:
    """A drain in the middle of a job leaves it queued, with the attempt it had before."""
    started = asyncio.Event()

    async def handle(_job: Job) -> None:
        started.set()
        await asyncio.Event().wait()

    worker = Worker(database)
    worker.handle("work", handle)
    await put(database)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await asyncio.wait_for(started.wait(), 10)
    stop.set()
    await asyncio.wait_for(running, 10)
    (row,) = [row for row in await rows(database) if row["kind"] == "work"]
    assert (row["state"], row["attempt"]) == ("queued", 0)


async def test_a_failed_attempt_comes_back_and_the_last_one_tells(database: Database) -> None:
    """Failures are retried with the error kept; the dead letter's hook runs in the parking transaction."""
    told: list[str] = []

    async def handle(_job: Job) -> None:
        message = "no luck"
        raise Conflict(message)

    async def parked(connection: Connection, job: Job, reason: str) -> None:
        assert await connection.fetchval("SELECT state FROM jobs WHERE id = $1", job.id) == "parked"
        told.append(reason)

    worker = Worker(database)
    worker.handle("work", handle, parked=parked)
    await put(database, max_attempts=2)
    for _ in range(2):
        await make_due(database)
        await worker.run_until_idle()
    (row,) = await rows(database)
    assert (row["state"], row["attempt"]) == ("parked", 2)
    assert told == ["Conflict: no luck"]
    async with database.transaction() as connection:
        assert await jobs.count_dead_letters(connection) == 1
        assert await jobs.redrive(connection, int(str(row["id"])))
    assert [row["state"] for row in await rows(database)] == ["queued"]


@pytest.mark.parametrize("error", [Unavailable("away", retry_after=0), DeadlineExceeded("catalog.CommitStock")])
async def test_an_outage_uses_up_no_job(database: Database, error: Problem) -> None:
    """However often a peer is found away, the job is still there when it comes back; for three days, then it parks."""

    async def handle(_job: Job) -> None:
        raise error

    worker = Worker(database)
    worker.handle("work", handle)
    await put(database, max_attempts=2)
    for _ in range(5):
        await make_due(database)
        await worker.run_until_idle()
    (row,) = await rows(database)
    assert (row["state"], row["attempt"]) == ("queued", 1)
    assert str(row["last_error"]).startswith(type(error).__name__)
    async with database.connection() as connection:
        await connection.execute("UPDATE jobs SET created_at = now() - interval '3 days'")
    await make_due(database)
    await worker.run_until_idle()
    assert [row["state"] for row in await rows(database)] == ["parked"]


async def test_park_ends_a_job_at_once_and_snooze_costs_no_attempt(database: Database) -> None:
    """Two ways out of a handler that are no failures."""

    async def handle(job: Job) -> None:
        if job.payload.get("park"):
            message = "hopeless"
            raise Park(message)
        raise Snooze(60)

    worker = Worker(database)
    worker.handle("work", handle)
    async with database.transaction() as connection:
        await jobs.enqueue_many(connection, [NewJob("work", {"park": True}), NewJob("work")])
    await worker.run_until_idle()
    parked, snoozed = await rows(database)
    assert (parked["state"], parked["attempt"]) == ("parked", 1)
    assert (snoozed["state"], snoozed["attempt"]) == ("queued", 0)


async def test_one_worker_fires_a_schedule_and_each_run_is_stored(database: Database) -> None:
    """Five workers at once, one run; the run says what it did."""
    calls = 0

    async def tick(_scheduled_for: datetime) -> Run:
        nonlocal calls
        calls += 1
        return Run(processed=3, failed=1)

    workers = [Worker(database) for _ in range(5)]
    for worker in workers:
        worker.every(3600, "tick", tick)
    async with database.transaction() as connection:
        await queue.plan(connection, ["tick"])
    async with asyncio.timeout(60):  # a schedule that is always due would never let them be idle
        await asyncio.gather(*(worker.run_until_idle() for worker in workers))
    assert calls == 1
    async with database.connection() as connection:
        (run,) = await connection.fetch("SELECT * FROM job_runs")
    assert (run["job"], run["processed"], run["failed"]) == ("tick", 3, 1)
    assert run["finished_at"] <= datetime.now(UTC)


async def test_a_schedule_is_fired_again_and_again(database: Database) -> None:
    """The worker waits for the time of the next run, and does not miss the one after it."""
    ran = asyncio.Semaphore(0)

    async def tick(_scheduled_for: datetime) -> Run:
        ran.release()
        return Run()

    worker = Worker(database, poll=0.01)
    worker.every(0.05, "tick", tick)
    stop = asyncio.Event()
    at_work = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(60):
        for _ in range(4):
            await ran.acquire()
    stop.set()
    await at_work


async def test_the_next_run_is_that_of_the_schedule_that_is_due_first(database: Database) -> None:
    """Others' schedules do not count, and when there is none, none is waited for."""
    async with database.transaction() as connection:
        await queue.plan(connection, ["daily", "hourly", "other"])
        assert await queue.next_run(connection, ["daily", "hourly"]) <= 0
        await queue.fire(connection, {"daily": 86_400.0, "hourly": 3600.0})
        assert await queue.next_run(connection, ["daily", "hourly"]) == 3600.0
        assert await queue.next_run(connection, ["daily"]) == 86_400.0
        assert await queue.next_run(connection, ["unknown"]) == math.inf


async def test_a_clock_that_was_ahead_does_not_stop_a_schedule(database: Database) -> None:
    """It has noted a next run that is more than two periods away: none is skipped until then."""
    async with database.transaction() as connection:
        await queue.plan(connection, ["tick"])
        for periods, fired in ((1.5, 0), (2.5, 1), (1.0, 0)):
            await connection.execute("UPDATE job_schedules SET next_run_at = now() + $1 * interval '1 hour'", periods)
            assert await queue.fire(connection, {"tick": 3600.0}) == fired


async def test_a_schedule_can_be_triggered_and_answers_its_stored_run(database: Database) -> None:
    """Triggered out of turn, it runs on a worker, is stored like any other run, and two triggers are two runs."""

    async def tick(_scheduled_for: datetime) -> Run:
        return Run(processed=3, failed=1)

    worker = Worker(database, poll=0.01)
    worker.every(3600, "tick", tick)
    waiting = await worker.trigger("tick", wait=0)
    assert (waiting.job, waiting.finished_at, waiting.processed) == ("tick", None, 0)
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(stop))
    done = await worker.trigger("tick", wait=10)
    stop.set()
    await working
    assert done.id != waiting.id
    assert done.finished_at is not None
    assert (done.processed, done.failed) == (3, 1)
    with pytest.raises(KeyError):
        await worker.trigger("no such schedule")


async def test_a_schedule_whose_runs_do_not_finish_is_late(database: Database) -> None:
    """Late by what its next finished run is overdue: missed, parked or hanging; a run that ends makes up for it."""

    async def tick(_scheduled_for: datetime) -> Run:
        return Run()

    async def late() -> dict[str, float]:
        async with database.connection() as connection:
            return await queue.lateness(connection, {"tick": 60.0, "unknown": 60.0})

    async def let_pass(seconds: int) -> None:
        async with database.connection() as connection:
            for statement in (
                "UPDATE job_schedules SET next_run_at = next_run_at - $1 * interval '1 second'",
                "UPDATE job_runs SET scheduled_for = scheduled_for - $1 * interval '1 second'",
            ):
                await connection.execute(statement, seconds)

    worker = Worker(database)
    worker.every(60, "tick", tick)
    async with database.transaction() as connection:
        await queue.plan(connection, ["tick"])
    await let_pass(100)
    assert int((await late())["tick"]) == 100  # nobody fired it
    await worker.run_until_idle()
    assert await late() == {"tick": 0.0}
    await let_pass(200)
    assert int((await late())["tick"]) == 140
    async with database.transaction() as connection:
        await queue.trigger(connection, "tick")  # waits for a worker
    assert int((await late())["tick"]) == 140
    await worker.run_until_idle()
    assert await late() == {"tick": 0.0}


async def test_the_correlation_id_of_the_cause_is_the_one_of_the_job(database: Database) -> None:
    """A job runs under the flow that enqueued it."""
    seen: list[str] = []

    async def handle(_job: Job) -> None:
        seen.append(correlation_id())

    worker = Worker(database)
    worker.handle("work", handle)
    with correlation_scope("flow-7"):
        await put(database)
    await worker.run_until_idle()
    assert seen == ["flow-7"]


async def test_a_commit_in_this_process_wakes_the_worker_before_its_poll(database: Database) -> None:
    """With a poll of an hour, the job still runs at once."""
    done = asyncio.Event()

    async def handle(_job: Job) -> None:
        done.set()

    worker = Worker(database, poll=3600)
    worker.handle("work", handle)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await asyncio.sleep(0.2)
    await put(database)
    await asyncio.wait_for(done.wait(), 10)
    stop.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_pruning_keeps_keys_taken_longer_than_plain_jobs(database: Database) -> None:
    """Plain finished jobs go after a day, keyed ones after ninety."""
    worker = Worker(database)
    worker.handle("work", lambda _job: asyncio.sleep(0))
    await put(database)
    await put(database, unique_key="k")
    await worker.run_until_idle()
    async with database.transaction() as connection:
        await connection.execute("UPDATE jobs SET finished_at = now() - interval '2 days'")
        assert await queue.prune(connection) == 1
    assert [row["unique_key"] for row in await rows(database)] == ["k"]


async def test_jobs_that_end_together_are_recorded_together(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first by itself, all that ended meanwhile in one statement; and every one is done."""
    recorded: list[int] = []
    complete = queue.complete

    async def counted(connection: Connection, ended: Sequence[Job]) -> set[tuple[int, int]]:
        recorded.append(len(ended))
        return await complete(connection, ended)

    monkeypatch.setattr(queue, "complete", counted)
    together = asyncio.Barrier(20)

    async def handler(_job: Job) -> None:
        await together.wait()

    worker = Worker(database, concurrency=20)
    worker.handle("work", handler)
    for _ in range(20):
        await put(database)
    await worker.run_until_idle()
    assert [row["state"] for row in await rows(database)] == ["done"] * 20
    assert sum(recorded) == 20
    assert len(recorded) < 20


async def test_a_lost_lease_takes_no_other_end_along(database: Database) -> None:
    """Of three that are recorded in one statement one belongs to another worker by now: the other two are done."""
    together = asyncio.Barrier(4)

    async def handler(job: Job) -> None:
        if job.payload["n"] == 1:
            async with database.connection() as connection:
                await connection.execute("UPDATE jobs SET fence = fence + 1 WHERE id = $1", job.id)
        await together.wait()

    worker = Worker(database, concurrency=4)
    worker.handle("work", handler)
    async with database.transaction() as connection:
        await jobs.enqueue_many(connection, [NewJob("work", {"n": n}) for n in range(4)])
    await worker.run_until_idle()
    assert [row["state"] for row in await rows(database)] == ["done", "running", "done", "done"]
