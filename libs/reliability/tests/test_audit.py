"""Who did what: written with the change, handed on until the log has it."""

import pytest

from reliability import audit
from reliability.audit import Entry
from reliability.context import correlation_scope
from reliability.errors import Unavailable
from reliability.jobs import Worker
from reliability.postgres import Database


class Log:
    """Takes entries, or is away."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.away = False

    async def append(self, entry: Entry) -> None:
        if self.away:
            raise Unavailable
        self.entries.append(entry)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def worker(database: Database, log: Log) -> Worker:
    worker = Worker(database)
    audit.deliver(worker, database, log.append)
    return worker


async def waiting(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM audit_entries WHERE appended_at IS NULL"))


async def test_an_entry_goes_the_way_of_its_change(database: Database, log: Log, worker: Worker) -> None:
    """Rolled back, it was never there; committed, the log gets it whole, with the flow it was part of."""
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await audit.record(connection, "staff-1", "customer.suspended", "customer-1")
            raise ZeroDivisionError
    with correlation_scope("flow-1"):
        async with database.transaction() as connection:
            entry_id = await audit.record(connection, "staff-1", "customer.suspended", "customer-2", reason="fraud")
    await worker.run_until_idle()
    (entry,) = log.entries
    assert (entry.id, entry.actor, entry.action, entry.subject) == (
        entry_id, "staff-1", "customer.suspended", "customer-2"
    )  # fmt: skip
    assert (entry.detail, entry.correlation_id) == ({"reason": "fraud"}, "flow-1")
    assert await waiting(database) == 0


async def test_an_entry_waits_for_a_log_that_is_away(database: Database, log: Log, worker: Worker) -> None:
    """Nothing is lost and nobody waits: the change has committed, the entry follows when the log is back."""
    log.away = True
    async with database.transaction() as connection:
        await audit.record(connection, "staff-1", "order.cancelled", "order-1")
    await worker.run_until_idle()
    assert (log.entries, await waiting(database)) == ([], 1)
    log.away = False
    async with database.connection() as connection:
        await connection.execute("UPDATE jobs SET run_at = now()")
    await worker.run_until_idle()
    assert (len(log.entries), await waiting(database)) == (1, 0)
