"""Schedules: fired by one worker of all, each run stored, and late when it does not finish."""

import asyncio
import math
from datetime import UTC, datetime

import pytest

from reliability.jobs import Run, Worker, schedules
from reliability.postgres import Database


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
        await schedules.plan(connection, ["tick"])
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
        await schedules.plan(connection, ["daily", "hourly", "other"])
        assert await schedules.next_run(connection, ["daily", "hourly"]) <= 0
        await schedules.fire(connection, {"daily": 86_400.0, "hourly": 3600.0})
        assert await schedules.next_run(connection, ["daily", "hourly"]) == 3600.0
        assert await schedules.next_run(connection, ["daily"]) == 86_400.0
        assert await schedules.next_run(connection, ["unknown"]) == math.inf


async def test_a_clock_that_was_ahead_does_not_stop_a_schedule(database: Database) -> None:
    """It has noted a next run that is more than two periods away: none is skipped until then."""
    async with database.transaction() as connection:
        await schedules.plan(connection, ["tick"])
        for periods, fired in ((1.5, 0), (2.5, 1), (1.0, 0)):
            await connection.execute("UPDATE job_schedules SET next_run_at = now() + $1 * interval '1 hour'", periods)
            assert await schedules.fire(connection, {"tick": 3600.0}) == fired


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
            return await schedules.lateness(connection, {"tick": 60.0, "unknown": 60.0})

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
        await schedules.plan(connection, ["tick"])
    await let_pass(100)
    assert int((await late())["tick"]) == 100  # nobody fired it
    await worker.run_until_idle()
    assert await late() == {"tick": 0.0}
    await let_pass(200)
    assert int((await late())["tick"]) == 140
    async with database.transaction() as connection:
        await schedules.trigger(connection, "tick")  # waits for a worker
    assert int((await late())["tick"]) == 140
    await worker.run_until_idle()
    assert await late() == {"tick": 0.0}
