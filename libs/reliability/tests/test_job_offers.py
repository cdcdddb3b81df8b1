"""A job that is born in the hands of the worker beside it: run without a claim, and lost by nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reliability import deadline, inbox, jobs
from reliability.context import correlation_id, correlation_scope
from reliability.errors import Unavailable
from reliability.inbox import Received
from reliability.jobs import Job, Worker, queue
from reliability.postgres import Connection, Database
from reliability.telemetry import carrier

EVENT = Received("stripe", "evt_1", "paid", "pi_1", b"{}")
STATEMENT = f"""
WITH source AS (SELECT $4::int AS id),
job AS ({
    jobs.enqueueing(
        "source",
        "work",
        "jsonb_build_object('n', id)",
        order_key="'n:' || id",
        unique_key="$5::text",
        correlation="$1",
        trace="$2::jsonb",
        lease="$3",
    )
})
SELECT (SELECT to_jsonb(job) FROM job)
"""


async def insert(database: Database, lease: float, n: int = 1, unique_key: str | None = None) -> Any:
    """The statement alone: what came of the job, or None."""
    async with database.connection() as connection:
        return await connection.fetchval(STATEMENT, correlation_id(), carrier(), lease, n, unique_key)


async def enqueue(database: Database, worker: Worker, n: int = 1, unique_key: str | None = None) -> None:
    """What a repository does: the statement under an offer, then the job that came of it."""
    async with database.connection() as connection:
        with worker.offer("work") as offer:
            values = correlation_id(), carrier(), offer.lease, n, unique_key
            offer.accept(await connection.fetchval(STATEMENT, *values))


async def stored(database: Database) -> list[tuple[str, int, int]]:
    """State, attempt and fence of each job but the worker's own."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT state, attempt, fence FROM jobs WHERE kind IN ('work', 'other') ORDER BY id"
        )
    return [(row["state"], row["attempt"], row["fence"]) for row in rows]


async def until(database: Database, *states: str) -> None:
    """Returns when the jobs are in these states."""
    async with asyncio.timeout(20):
        while [state for state, _, _ in await stored(database)] != list(states):
            await asyncio.sleep(0.01)


class Gate:
    """A handler that waits: what came into it, and what lets each of them out."""

    def __init__(self) -> None:
        self.entered: asyncio.Queue[Job] = asyncio.Queue()
        self.places = asyncio.Semaphore(0)

    async def __call__(self, job: Job) -> None:
        self.entered.put_nowait(job)
        await self.places.acquire()

    async def next(self) -> int:
        """Which job came in next."""
        return int((await asyncio.wait_for(self.entered.get(), 20)).payload["n"])


def never_looking(database: Database, call: Callable[[Job], Awaitable[None]], concurrency: int = 8) -> Worker:
    """A worker that looks for jobs when it begins, and then only when it is told."""
    worker = Worker(database, poll=3600, lease=3600, concurrency=concurrency)
    worker.handle("work", call)
    return worker


@pytest.fixture(autouse=True)
def _no_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make the worker look."""
    monkeypatch.setattr("reliability.jobs.worker.HOUSEKEEPING", 3600.0)


@asynccontextmanager
async def at_work(database: Database, worker: Worker) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The worker runs and has looked about; yields what drains it."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(20):
        while not (await _pruned(database) and _free(worker)):
            await asyncio.sleep(0.01)

    async def drain() -> None:
        stop.set()
        await task

    try:
        yield drain
    finally:
        await drain()


async def _pruned(database: Database) -> bool:
    """Whether the worker has done its own first job, after which nothing wakes it by itself."""
    async with database.connection() as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM job_runs WHERE finished_at IS NOT NULL)"))


def _free(worker: Worker) -> bool:
    with worker.offer("work") as offer:
        return offer.lease > 0


async def claimed(_connection: Connection, kinds: Any, limit: int, lease: float) -> list[Job]:
    """Instead of a claim: nobody should need one."""
    del kinds, limit, lease
    return []


async def test_it_is_run_without_a_claim(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the worker beside it, once, as attempt 1."""
    gate = Gate()
    worker = never_looking(database, gate)
    async with at_work(database, worker):
        monkeypatch.setattr(queue, "claim", claimed)
        await enqueue(database, worker, n=5)
        assert await gate.next() == 5
        assert await stored(database) == [("running", 1, 1)]
        gate.places.release()
        await until(database, "done")


async def test_it_has_nothing_of_the_request_but_its_flow(database: Database) -> None:
    """Neither the deadline nor the connection of whoever enqueued it: it goes on when they are gone."""
    seen: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

    async def handle(_job: Job) -> None:
        async with database.connection() as connection:
            await connection.fetchval("SELECT 1")
        seen.put_nowait((correlation_id(), deadline.remaining(30.0)))

    worker = never_looking(database, handle)
    async with at_work(database, worker):
        with correlation_scope("flow-1"), deadline.deadline_scope(5.0):
            async with database.connection() as connection:
                with worker.offer("work") as offer:
                    offer.accept(await connection.fetchval(STATEMENT, correlation_id(), {}, offer.lease, 1, None))
                flow, left = await asyncio.wait_for(seen.get(), 20)  # while the connection is still held
    assert flow == "flow-1"
    assert left > 5.0


@pytest.mark.parametrize("case", ["not at work", "another kind"])
async def test_where_nobody_would_run_it_it_is_queued(database: Database, case: str) -> None:
    """A process without a worker at work, or with one that does not know the kind."""
    worker = never_looking(database, Gate())
    if case == "another kind":
        other = Worker(database)
        other.handle("other", Gate())
        with other.offer("work") as offer:
            assert not offer.lease
    else:
        await enqueue(database, worker)
        assert await stored(database) == [("queued", 0, 0)]


async def test_places_are_not_offered_twice(database: Database) -> None:
    """One for each that may run; whoever leaves, by an error or not, makes room."""
    worker = never_looking(database, Gate(), concurrency=2)
    async with at_work(database, worker):
        with worker.offer("work") as first:
            with pytest.raises(ZeroDivisionError), worker.offer("work") as second:
                assert first.lease
                assert second.lease
                assert not _free(worker)
                raise ZeroDivisionError
            assert _free(worker)
            with worker.offer("work"):
                assert not _free(worker)


async def test_what_a_claim_may_fill_is_not_offered(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is on its way nobody knows how many it brings: no more run at once than may."""
    gate, claim = Gate(), queue.claim
    asked, answered = asyncio.Event(), asyncio.Event()

    async def slow(connection: Connection, kinds: Any, limit: int, lease: float) -> list[Job]:
        asked.set()
        await answered.wait()
        return await claim(connection, kinds, limit, lease)

    worker = never_looking(database, gate, concurrency=2)
    async with at_work(database, worker):
        monkeypatch.setattr(queue, "claim", slow)
        async with database.transaction() as connection:
            await jobs.enqueue_many(connection, [jobs.NewJob("work", {"n": n}) for n in (1, 2)])
        await asyncio.wait_for(asked.wait(), 20)
        await enqueue(database, worker, n=3)
        answered.set()
        assert {await gate.next(), await gate.next()} == {1, 2}
        assert await stored(database) == [("running", 1, 1), ("running", 1, 1), ("queued", 0, 0)]
        gate.places.release()
        assert await gate.next() == 3
        for _ in range(2):
            gate.places.release()
        await until(database, "done", "done", "done")


async def test_one_for_whom_there_was_no_place_is_run_when_there_is(database: Database) -> None:
    """It is queued and told of, as if nothing had been offered."""
    gate = Gate()
    worker = never_looking(database, gate, concurrency=1)
    async with at_work(database, worker):
        await enqueue(database, worker, n=1)
        assert await gate.next() == 1
        await enqueue(database, worker, n=2)
        assert await stored(database) == [("running", 1, 1), ("queued", 0, 0)]
        gate.places.release()
        assert await gate.next() == 2
        gate.places.release()
        await until(database, "done", "done")


async def test_an_offer_that_kept_a_claim_from_its_place_tells(database: Database) -> None:
    """A queued job is looked for again when the place that was held for another is left unused."""
    gate = Gate()
    worker = never_looking(database, gate, concurrency=1)
    async with at_work(database, worker):
        with worker.offer("work") as offer:
            assert offer.lease
            async with database.transaction() as connection:
                await jobs.enqueue(connection, "work", {"n": 3})
            async with asyncio.timeout(20):
                while not worker._more:
                    await asyncio.sleep(0)
        assert await gate.next() == 3
        gate.places.release()
        await until(database, "done")


async def test_nobody_is_let_in_before_older_jobs(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While some wait for places, a place that has just become free is theirs."""
    gate, away, refused, claim = Gate(), asyncio.Event(), asyncio.Event(), queue.claim

    async def sometimes(connection: Connection, kinds: Any, limit: int, lease: float) -> list[Job]:
        if away.is_set():
            refused.set()
            raise Unavailable("not now")
        return await claim(connection, kinds, limit, lease)

    monkeypatch.setattr(queue, "claim", sometimes)
    worker = never_looking(database, gate, concurrency=2)
    async with at_work(database, worker):
        async with database.transaction() as connection:
            await jobs.enqueue_many(connection, [jobs.NewJob("work", {"n": n}) for n in (1, 2, 3)])
        assert {await gate.next(), await gate.next()} == {1, 2}
        away.set()
        gate.places.release()
        await until(database, "done", "running", "queued")
        await asyncio.wait_for(refused.wait(), 20)
        assert not _free(worker)
        away.clear()
        gate.places.release()
        assert await gate.next() == 3
        gate.places.release()
        await until(database, "done", "done", "done")


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_one_with_an_order_key_waits_for_the_one_before_it(database: Database, state: str) -> None:
    """And runs as soon as that one has ended, though nobody polls."""
    gate = Gate()
    worker = never_looking(database, gate)
    async with at_work(database, worker):
        await enqueue(database, worker, n=1)
        assert await gate.next() == 1
        if state == "queued":
            async with database.connection() as connection:
                await connection.execute(
                    "UPDATE jobs SET kind = 'other', state = 'queued', lease_until = NULL WHERE kind = 'work'"
                )
        await enqueue(database, worker, n=1)
        assert await stored(database) == [(state, 1, 1), ("queued", 0, 0)]
        gate.places.release()
        if state == "running":
            assert await gate.next() == 1
            gate.places.release()
            await until(database, "done", "done")


async def test_of_two_born_at_once_with_one_order_key_the_second_is_queued(database: Database) -> None:
    """Neither sees the other when it looks; the index of running jobs decides, and no event is lost."""
    gate = Gate()
    worker = never_looking(database, gate)
    async with at_work(database, worker):
        async with database.transaction() as connection:
            await connection.execute(
                "INSERT INTO jobs (kind, payload, order_key, max_attempts, state, attempt, fence, lease_until) "
                "VALUES ('other', '{}', 'stripe:pi_1', 5, 'running', 1, 1, now() + interval '1 hour')"
            )

            async def receive() -> str | None:
                async with database.connection() as second:
                    with worker.offer("work") as offer:
                        return await inbox.receive(second, EVENT, job="work", offer=offer)

            # A task of its own: this one holds a connection.
            receiving = asyncio.create_task(receive(), context=worker._surroundings)
            async with asyncio.timeout(20):
                while not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND datname = current_database())"
                ):
                    await asyncio.sleep(0.01)
        assert await receiving == "received"
        assert await stored(database) == [("running", 1, 1), ("queued", 0, 0)]


async def test_one_that_is_known_begins_nothing(database: Database) -> None:
    """A used key, and an event that was received before."""
    gate = Gate()
    worker = never_looking(database, gate)
    async with at_work(database, worker):
        gate.places.release()
        await enqueue(database, worker, unique_key="once")
        await until(database, "done")
        await enqueue(database, worker, unique_key="once")
        with worker.offer("work") as offer:
            async with database.connection() as connection:
                gate.places.release()
                assert await inbox.receive(connection, EVENT, job="work", offer=offer) == "received"
                assert await inbox.receive(connection, EVENT, job="work", offer=offer) is None
        await until(database, "done", "done")


async def test_whoever_dies_before_it_begins_leaves_it_to_its_lease(database: Database) -> None:
    """Born and never begun, as after kill -9 right after the commit: another worker has it as attempt 2."""
    born = await insert(database, lease=30.0)
    async with database.connection() as connection:
        await connection.execute("UPDATE jobs SET lease_until = now()")
    assert (born["state"], born["payload"], born["order_key"]) == ("running", {"n": 1}, "n:1")
    gate = Gate()
    gate.places.release()
    worker = never_looking(database, gate)
    async with at_work(database, worker):
        assert await gate.next() == 1
        await until(database, "done")
    assert await stored(database) == [("done", 2, 2)]


async def test_one_that_is_born_during_a_drain_is_given_back(database: Database) -> None:
    """The place was offered before: the job is another worker's at once, and this attempt is not counted."""
    worker = never_looking(database, Gate())
    async with at_work(database, worker) as drain:
        with worker.offer("work") as offer:
            born = await insert(database, offer.lease)
            await drain()
            offer.accept(born)
        await until(database, "queued")
        assert await stored(database) == [("queued", 0, 1)]
        assert not _free(worker)
