"""The parts for tests, tested: what they say happened, happened."""

import pytest

from libs.reliability.tests.support import Distant, DistantCache, put, sql
from reliability.deadline import deadline_scope
from reliability.errors import DeadlineExceeded, Unavailable
from reliability.postgres import Database
from reliability.redis import CacheUnavailable
from reliability.testing import Broken, FakeClock, FaultProxy, Invariants
from reliability.testing.invariants import JOBS, QUIET

# --- invariants


async def test_all_are_asked_and_each_that_fails_says_what_breaks_it(database: Database) -> None:
    """One failure hides no other, not even one that is an error of the question."""

    async def ledger() -> list[object]:
        return [{"order": n} for n in range(7)]

    books = Invariants()
    books.sql("one is one", database, "SELECT 1 WHERE 1 <> 1")
    books.sql("nothing is two", database, "SELECT 2 AS two")
    books.sql("the table is there", database, "SELECT * FROM nowhere")
    books.add("the ledger agrees", ledger)
    with pytest.raises(Broken) as broken:
        await books.check()
    assert set(broken.value.found) == {"nothing is two", "the table is there", "the ledger agrees"}
    lines = str(broken.value).splitlines()
    assert lines[0] == "3 of 4 invariants do not hold:"
    assert lines[1:3] == ["  nothing is two: 1 counterexample", "    {'two': 2}"]
    assert 'could not be checked: UndefinedTableError: relation "nowhere" does not exist' in str(broken.value)
    assert lines[-1] == "    and 2 more"


async def test_what_holds_is_silent_and_what_comes_to_hold_is_waited_for(database: Database) -> None:
    """`settled` looks again until all hold at once, and says what is missing when they do not."""
    looks = 0

    async def third_time() -> list[object]:
        nonlocal looks
        looks += 1
        return [] if looks > 2 else [looks]

    books = Invariants()
    books.all_sql(database, JOBS | QUIET)
    await books.check()
    books.add("the third look", third_time)
    await books.settled()
    assert looks == 3
    await put(database)
    with pytest.raises(Broken, match=r"1 of 7 invariants does not hold:\n  no job is left to do: 1 counterexample"):
        await books.settled(seconds=0)


async def test_the_invariants_of_jobs_can_be_broken(database: Database) -> None:
    """Each of them finds what it is there for, once the constraint that forbids it is gone."""
    for statement in (
        "DROP INDEX jobs_order_running, jobs_unique_key",
        """INSERT INTO jobs (kind, payload, unique_key, order_key, state, attempt, max_attempts, lease_until)
           SELECT 'work', '{}', 'u', 'o', 'running', 2, 1, now() FROM generate_series(1, 2)""",
        """INSERT INTO jobs (kind, payload, state, max_attempts, finished_at)
           VALUES ('work', '{}', 'parked', 1, now())""",
        "INSERT INTO job_runs (job, scheduled_for) VALUES ('nightly', now())",
    ):
        await sql(database, statement)
    books = Invariants()
    books.all_sql(database, JOBS | QUIET, prefix="orders: ")
    assert set(await books.broken()) == {f"orders: {name}" for name in JOBS | QUIET}


async def test_a_list_that_promises_nothing_is_a_mistake() -> None:
    """It would pass for ever; so would a second promise under the name of the first."""

    async def holds(_query: str = "") -> list[object]:
        return []

    books = Invariants()
    with pytest.raises(ValueError, match="nothing is promised"):
        await books.check()
    books.sql("a", holds, "SELECT 1")
    with pytest.raises(ValueError, match="already"):
        books.add("a", holds)
    await books.check()


# --- the network


async def test_a_half_open_redis_connection_costs_one_timeout(distant_cache: DistantCache) -> None:
    """The other side is gone and nobody said so: the call fails by its own clock, the next has a new connection."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    await cache.run("ping", lambda client: client.ping())
    proxy.half_open()
    with pytest.raises(CacheUnavailable):
        await cache.run("set", lambda client: client.set("lost", 1))
    await cache.run("set", lambda client: client.set("kept", 1))
    assert await distant_cache.near.client.keys("*") == [b"kept"]


async def test_a_half_open_postgres_connection_costs_one_deadline(distant: Distant) -> None:
    """What was sent to nobody did not happen, and its connection is not used again."""
    await distant.note("before")
    distant.proxy.half_open()
    with pytest.raises((DeadlineExceeded, Unavailable)), deadline_scope(0.3):
        await distant.note("lost")
    await distant.note("after")
    assert await distant.notes() == ["after", "before"]


async def test_half_open_connections_do_not_come_back(distant_cache: DistantCache) -> None:
    """Unlike one that hangs, which `forward` releases."""
    cache, proxy = distant_cache.cache, distant_cache.proxy
    await cache.run("ping", lambda client: client.ping())
    proxy.half_open()
    proxy.forward()
    with pytest.raises(CacheUnavailable):
        await cache.run("ping", lambda client: client.ping())


def test_an_address_without_a_port_has_no_proxy() -> None:
    """There is nothing to forward to."""
    with pytest.raises(ValueError, match="a host and a port"):
        FaultProxy.before("postgres:///test")


# --- the clock


async def test_a_clock_stands_still_until_it_is_moved() -> None:
    """`sleep` moves it at once; both clocks go together, and never back."""
    clock = FakeClock(start=10, epoch=1_000)
    assert (clock(), clock.time()) == (10, 1_000)
    clock.advance(2.5)
    await clock.sleep(1.5)
    assert (clock(), clock.time(), clock.slept) == (14, 1_004, [1.5])
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
