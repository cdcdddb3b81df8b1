"""What is past retention goes, a batch at a time, and a batch that fails takes nothing of the ones before it back."""

from reliability import retention
from reliability.jobs import Worker, schedules
from reliability.postgres import Connection, Database


async def test_every_purge_runs_until_nothing_is_left(database: Database) -> None:
    """Each batch is a transaction of its own; the run says how much it was in all."""
    left, transactions = {"keys": 25, "rows": 3}, set()

    def purge(name: str) -> retention.Purge:
        async def batch(connection: Connection) -> int:
            transactions.add(await connection.fetchval("SELECT pg_current_xact_id()::text"))
            done = min(10, left[name])
            left[name] -= done
            return done

        return batch

    worker = Worker(database)
    retention.register(worker, database, purge("keys"), purge("rows"))
    waiting = await worker.trigger(retention.PURGE, wait=0)
    await worker.run_until_idle()
    async with database.connection() as connection:
        run = await schedules.stored_run(connection, waiting.id)
    assert (run.processed, run.failed, left) == (28, 0, {"keys": 0, "rows": 0})
    assert len(transactions) == 6


async def test_a_purge_that_fails_is_run_again(database: Database) -> None:
    """The run is not over until it went through."""
    over: list[object] = []

    async def batch(connection: Connection) -> int:
        over.append(await connection.fetchval("SELECT finished_at FROM job_runs"))
        if len(over) == 1:
            raise ZeroDivisionError
        return 0

    worker = Worker(database)
    retention.register(worker, database, batch)
    waiting = await worker.trigger(retention.PURGE, wait=0)
    await worker.run_until_idle()
    async with database.connection() as connection:
        await connection.execute("UPDATE jobs SET run_at = now()")
    await worker.run_until_idle()
    async with database.connection() as connection:
        assert (await schedules.stored_run(connection, waiting.id)).finished_at is not None
    assert over == [None, None]
