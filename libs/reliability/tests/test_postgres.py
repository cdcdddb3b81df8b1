"""The pool: ends in time, commits or says so, survives its server."""

import asyncio
import contextlib
import contextvars
import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from libs.reliability.tests.support import Distant, eventually
from reliability.circuit_breaker import State
from reliability.deadline import deadline_scope
from reliability.errors import DeadlineExceeded, Unavailable
from reliability.postgres import BREAKER, Connection, Database, signal
from reliability.retry import previous_attempts_scope

if TYPE_CHECKING:
    from conftest import Servers

CANCEL_REQUEST = (80877102).to_bytes(4)  # its code in the protocol


async def count_sessions(database: Database, condition: str) -> int:
    """Sessions of the distant pool of which `condition` is true."""
    async with database.connection() as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'distant'"
                f" AND datname = current_database() AND {condition}"
            )
        )


async def assert_pool_is_whole(distant: Distant) -> None:
    """Every connection of the pool can be held at once and works."""
    everybody = asyncio.Barrier(3)

    async def use() -> None:
        try:
            async with distant.database.transaction() as connection:
                assert await connection.fetchval("SELECT 1") == 1
                await everybody.wait()
        except Unavailable:
            await everybody.abort()  # or the others would hold theirs for ever
            raise

    async with asyncio.timeout(10):
        await asyncio.gather(*(use() for _ in range(3)))
    assert await count_sessions(distant.near, "state LIKE 'idle in transaction%'") == 0


async def test_cancelled_during_begin_nothing_stays_open(distant: Distant) -> None:
    """Whoever gets the connection next is not inside somebody else's transaction."""
    await distant.note("before")
    distant.proxy.hang(at=b"BEGIN")
    task = asyncio.create_task(distant.note("cancelled"))
    await distant.proxy.seen(b"BEGIN", times=2)
    task.cancel()
    await asyncio.sleep(0)
    distant.proxy.forward()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_pool_is_whole(distant)
    assert await distant.notes() == ["before"]


async def test_a_commit_that_was_sent_is_waited_for_however_often_it_is_cancelled(distant: Distant) -> None:
    """A drain that cancels twice does not tear a commit: the row is there and the connection is sound."""
    distant.proxy.hang(at=b"COMMIT")
    task = asyncio.create_task(distant.note("kept"))
    await distant.proxy.seen(b"COMMIT")
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not task.done()
    distant.proxy.forward()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await distant.notes() == ["kept"]
    assert distant.proxy.count(b"ROLLBACK") == 0
    assert distant.proxy.count(CANCEL_REQUEST) == 0  # nobody asked the server to stop in the middle of it
    await assert_pool_is_whole(distant)


async def test_a_commit_whose_reply_is_lost_is_not_called_a_success(distant: Distant) -> None:
    """We do not know, so we say 503, and the pool goes on."""
    distant.proxy.drop_reply(at=b"COMMIT")
    with pytest.raises(Unavailable):
        await distant.note("unknown")
    assert await distant.notes() == ["unknown"]
    await assert_pool_is_whole(distant)


async def test_a_swallowed_failure_is_not_called_a_commit(distant: Distant) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK and no error: we do not."""
    await distant.note("twice")
    with pytest.raises(RuntimeError, match="nothing was committed"):
        async with distant.database.transaction() as connection:
            await connection.execute("INSERT INTO notes VALUES ('lost')")
            with contextlib.suppress(asyncpg.UniqueViolationError):
                await connection.execute("INSERT INTO notes VALUES ('twice')")
    assert await distant.notes() == ["twice"]


async def test_the_deadline_ends_a_statement_in_the_server_too(distant: Distant) -> None:
    """Whichever clock is first, ours or the server's, the caller hears 504 and the server stops working."""
    for milliseconds in (50, 51.3, 52.7, 53.9, 55.1):
        with pytest.raises(DeadlineExceeded), deadline_scope(milliseconds / 1000):
            async with distant.database.transaction() as connection:
                await connection.execute("SELECT pg_sleep(30)")
    await assert_pool_is_whole(distant)
    assert await count_sessions(distant.near, "query LIKE '%pg_sleep%' AND state = 'active'") == 0


async def test_a_statement_whose_client_is_cut_off_ends_by_itself(distant: Distant) -> None:
    """Nobody can tell the server to stop: it was told beforehand for how long somebody waits."""

    async def ask() -> None:
        with deadline_scope(0.5):
            async with distant.database.transaction() as connection:
                await connection.execute("SELECT pg_sleep(60)")

    async def over() -> bool:
        return await count_sessions(distant.near, "query LIKE '%pg_sleep%' AND state = 'active'") == 0

    asking = asyncio.create_task(ask())
    await distant.proxy.seen(b"pg_sleep")
    distant.proxy.hang()  # another connection to say so comes to nothing either
    with pytest.raises((DeadlineExceeded, Unavailable)):
        await asking
    await eventually(over)


async def test_the_servers_own_timeout_is_a_deadline(database: Database) -> None:
    """A statement ended by statement_timeout is out of time, not an error of ours."""
    with pytest.raises(DeadlineExceeded):
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = 10")
            await connection.execute("SELECT pg_sleep(30)")


async def test_a_transaction_nobody_ends_is_ended_by_the_server(database: Database) -> None:
    """A process cut off in the middle holds its locks for its deadline and five seconds, not for ever."""
    with deadline_scope(2):
        async with database.transaction() as connection:
            limit = await connection.fetchval("SHOW idle_in_transaction_session_timeout")
    assert 6000 <= int(limit.removesuffix("ms")) <= 7000
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"


async def test_a_full_pool_says_so_at_the_deadline(distant: Distant) -> None:
    """Waiting for a connection ends with the request, and costs the pool nothing."""
    release = asyncio.Event()

    async def hold(ready: asyncio.Barrier) -> None:
        async with distant.database.connection():
            await ready.wait()
            await release.wait()

    ready = asyncio.Barrier(4)
    holders = [asyncio.create_task(hold(ready)) for _ in range(3)]
    await ready.wait()
    with pytest.raises(DeadlineExceeded, match="database pool"), deadline_scope(0.05):
        await distant.note("late")
    release.set()
    await asyncio.gather(*holders)
    await assert_pool_is_whole(distant)


async def test_cancelled_waiters_leave_the_pool_whole(distant: Distant) -> None:
    """A hundred tasks cancelled at every point of acquiring, beginning and committing leak no connection."""
    tasks = [asyncio.create_task(distant.note(str(number))) for number in range(100)]
    for turn, task in enumerate(tasks):
        if turn % 3 == 0:
            await asyncio.sleep(0.001)
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    done = {str(number) for number, outcome in enumerate(outcomes) if outcome is None}
    assert done <= set(await distant.notes())
    await assert_pool_is_whole(distant)


async def test_who_waits_is_served_in_turn_and_by_the_same_connection(servers: "Servers") -> None:
    """A connection goes from hand to hand; who was cancelled as it was handed one gives it to the next."""
    database = Database(servers.endpoints.postgres, size=1)
    served: list[tuple[int, int]] = []
    tasks: list[asyncio.Task[None]] = []

    async def use(number: int) -> None:
        async with database.connection() as connection:
            served.append((number, await connection.fetchval("SELECT pg_backend_pid()")))
        if number == 0:
            tasks[1].cancel()  # who has been handed it by the line above, and does not know yet

    tasks += [asyncio.create_task(use(number)) for number in range(4)]
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None), type(None)]
        assert [number for number, _ in served] == [0, 2, 3]
        assert len({process for _, process in served}) == 1
        await use(5)
    await database.close()


async def test_a_connection_that_dies_in_use_holds_nobody_back(servers: "Servers") -> None:
    """Those who wait for it get another, each of them."""
    database = Database(servers.endpoints.postgres, size=1)
    waiting: list[asyncio.Task[int]] = []

    async def use() -> int:
        async with database.connection() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            async with database.connection() as connection:
                process = await connection.fetchval("SELECT pg_backend_pid()")
                waiting += [asyncio.create_task(use(), context=contextvars.Context()) for _ in range(3)]
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        others = set(await asyncio.gather(*waiting))
    assert len(others) == 1
    assert process not in others
    await database.close()


async def test_closing_tells_who_waits(servers: "Servers") -> None:
    """A process that stops keeps nobody until the deadline."""
    database = Database(servers.endpoints.postgres, size=1)

    async def use() -> None:
        async with database.connection():
            pass

    async with asyncio.timeout(30), database.connection() as connection:
        waiting = asyncio.create_task(use(), context=contextvars.Context())
        await connection.execute("SELECT 1")
        closing = asyncio.create_task(database.close())
        with pytest.raises(Unavailable, match="stopping"):
            await waiting
    await closing


async def test_after_the_server_killed_every_connection_the_pool_recovers(distant: Distant) -> None:
    """The one in use says 503 and leaves nothing; the dead ones may say so once more, then all is well."""
    await assert_pool_is_whole(distant)
    with pytest.raises(Unavailable):
        async with distant.database.transaction() as connection:
            await connection.execute("INSERT INTO notes VALUES ('half')")
            async with distant.near._pool.acquire() as other:  # type: ignore[union-attr]
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'distant'"
                )
            await connection.execute("SELECT 1")
    assert await distant.notes() == []
    await eventually(partial(_whole, distant))  # the other two, if asyncpg has not noticed yet


async def _whole(distant: Distant) -> bool:
    try:
        await assert_pool_is_whole(distant)
    except Unavailable:
        return False
    return True


async def test_a_server_that_is_away_is_503_and_found_again(distant: Distant) -> None:
    """Also when it was away at first use, before there was a pool."""
    for _ in range(2):
        distant.proxy.refuse()
        with pytest.raises(Unavailable):
            await distant.note("lost")
        assert not await distant.database.ready()
        distant.proxy.forward()
        assert await distant.database.ready()
    await distant.note("back")
    assert await distant.notes() == ["back"]


@pytest.mark.parametrize("at", [b"BEGIN", b"INSERT", b"COMMIT"])
async def test_a_hung_server_holds_a_request_for_its_deadline_and_little_more(distant: Distant, at: bytes) -> None:
    """Neither the cancellation, the rollback nor the release waits for a server that says nothing."""
    await assert_pool_is_whole(distant)
    distant.proxy.hang(at=at)
    with pytest.raises((DeadlineExceeded, Unavailable)):
        async with asyncio.timeout(4):
            with deadline_scope(0.1):
                await distant.note("silence")
    if at == b"BEGIN":
        assert not await distant.database.ready()
    distant.proxy.forward()
    await assert_pool_is_whole(distant)


async def test_somebody_elses_timeout_passes_as_it_is(database: Database) -> None:
    """A TimeoutError or a missing file inside the block is not called an outage of the database."""
    for error in (TimeoutError("mine"), FileNotFoundError("mine")):
        with pytest.raises(type(error), match="mine"):
            async with database.transaction():
                raise error


async def test_a_connection_that_dies_after_the_work_does_not_undo_the_answer(distant: Distant) -> None:
    """Giving back a dead connection is no failure of what was done with it."""
    async with distant.database.connection() as connection:
        await connection.execute("INSERT INTO notes VALUES ('done')")
        distant.proxy.cut()
        async with asyncio.timeout(10):
            while connection._con is not None:  # type: ignore[union-attr]
                await asyncio.sleep(0)
    assert await distant.notes() == ["done"]


async def test_a_task_that_outlives_its_parents_connection_may_have_its_own(database: Database) -> None:
    """While the parent holds one, a child that asks for another is refused; afterwards it is not."""
    released = asyncio.Event()

    async def child() -> int:
        with pytest.raises(RuntimeError, match="already holds"):
            async with database.connection():
                pass
        await released.wait()
        async with database.connection() as connection:
            return int(await connection.fetchval("SELECT 1"))

    async with database.connection():
        task = asyncio.create_task(child())
        await asyncio.sleep(0)
    released.set()
    assert await task == 1


async def test_listeners_hear_of_commits_only(database: Database) -> None:
    """A signal of a rolled-back transaction is not passed on; one of a committed transaction is, afterwards."""
    heard: list[str] = []
    database.listen("news", lambda: heard.append("news"))
    with pytest.raises(ZeroDivisionError):
        async with database.transaction():
            signal("news")
            raise ZeroDivisionError
    assert heard == []
    async with database.transaction():
        signal("news")
        assert heard == []
    assert heard == ["news"]


async def test_after_closing_it_says_503(distant: Distant) -> None:
    """A request that is late for the drain hears that the process is stopping."""
    await distant.note("a")
    await distant.database.close()
    with pytest.raises(Unavailable):
        await distant.note("b")


# --- away, hung, and what is begun again


async def test_a_restart_is_waited_for(distant: Distant) -> None:
    """Nothing was asked yet, so a connection is tried again; the request notices nothing."""
    distant.proxy.refuse(times=3)
    await distant.note("after")
    assert await distant.notes() == ["after"]


async def test_below_a_callers_second_attempt_a_connection_is_tried_twice_only(distant: Distant) -> None:
    """As everywhere: one layer retries. The first try finds out that there is something to try again."""
    distant.proxy.refuse(times=2)
    with previous_attempts_scope(1), pytest.raises(Unavailable):
        await distant.note("lost")
    await distant.note("after")


async def test_a_hung_server_costs_a_few_requests_their_time_and_the_others_none(distant: Distant) -> None:
    """Then it is refused without a byte sent, and asked again soon: whoever asks, readiness for one."""
    url = distant.proxy.through(distant.url)
    database = Database(url, size=3, rules=dataclasses.replace(BREAKER, minimum_calls=4))

    await one_second(database)
    distant.proxy.hang()
    ended = await asyncio.gather(*(one_second(database) for _ in range(3)), return_exceptions=True)
    assert {type(error) for error in ended} == {DeadlineExceeded}
    assert database.breaker.state is State.OPEN
    with pytest.raises(Unavailable) as refused:
        await one_second(database)
    assert (refused.value.code, 0 < (refused.value.retry_after or 0) <= 1) == ("unavailable", True)
    assert not await database.ready()
    distant.proxy.forward()
    await eventually(database.ready)
    await one_second(database)
    await database.close()


async def test_what_the_server_answers_is_no_failure_of_it(database: Database) -> None:
    """Nor is a cancellation, or a request that came with no time."""
    for _ in range(10):
        with pytest.raises(asyncpg.UndefinedTableError):
            async with database.transaction() as connection:
                await connection.execute("SELECT * FROM nowhere")
        with pytest.raises(Unavailable):
            async with database.connection():
                raise Unavailable("somebody else")
        with pytest.raises(DeadlineExceeded), deadline_scope(0.001):
            async with database.transaction() as connection:
                await connection.execute("SELECT pg_sleep(9)")
        task = asyncio.create_task(sleep_in(database))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert database.breaker.state is State.CLOSED
    assert database.breaker.snapshot().failures == 0


async def test_a_full_pool_is_no_failure_of_the_server(servers: "Servers") -> None:
    """Those who wait in vain wait for us."""
    database = Database(servers.endpoints.postgres, size=1, rules=dataclasses.replace(BREAKER, minimum_calls=1))
    async with database.connection():
        waiting = asyncio.create_task(one_second(database), context=contextvars.Context())
        with contextlib.suppress(DeadlineExceeded):
            await waiting
    assert isinstance(waiting.exception(), DeadlineExceeded)
    assert database.breaker.state is State.CLOSED
    await database.close()


async def one_second(database: Database) -> None:
    """Asks with just enough time to say something about the server."""
    with deadline_scope(1.05):
        async with database.transaction():
            pass


async def sleep_in(database: Database) -> None:
    """A statement that takes long."""
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_sleep(9)")


@pytest.mark.parametrize("error", [asyncpg.SerializationError, asyncpg.DeadlockDetectedError])
async def test_a_transaction_the_server_undid_is_begun_again(
    distant: Distant, error: type[asyncpg.PostgresError]
) -> None:
    """As a whole, and once it commits it is over."""
    tries = 0

    async def work(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        await connection.execute("INSERT INTO notes VALUES ($1)", f"try {tries}")
        if tries == 1:
            raise error("x")
        return tries

    assert await distant.near.run("note", work) == 2
    assert await distant.notes() == ["try 2"]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_lost_commit_is_repeated_only_when_that_does_no_harm(distant: Distant, idempotent: bool) -> None:
    """The first one was done; only the caller knows whether twice is once."""

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO notes VALUES (gen_random_uuid())")

    distant.proxy.drop_reply(at=b"COMMIT")
    with contextlib.nullcontext() if idempotent else pytest.raises(Unavailable):
        await distant.database.run("note", work, idempotent=idempotent)
    assert len(await distant.notes()) == (2 if idempotent else 1)
