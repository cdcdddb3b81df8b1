"""Jobs: committed with their cause, run until done, owned by one worker at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from reliability import jobs
from reliability.context import correlation_id, correlation_scope
from reliability.errors import Conflict, DeadlineExceeded, LeaseLost, Problem, Unavailable
from reliability.jobs import Job, NewJob, Park, Snooze, Worker, queue
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
