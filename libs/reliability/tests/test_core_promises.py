"""The promises the purchase stands on: idempotency keys, deduplication, the inbox, deadlines."""

import asyncio
import hashlib
import hmac
import json

import pytest

from reliability import deadline, idempotency, inbox
from reliability.context import correlation_id, correlation_scope
from reliability.dedup import deduplicate
from reliability.errors import (
    DeadlineExceeded,
    DuplicateRequest,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    LeaseLost,
    RateLimited,
)
from reliability.fingerprint import fingerprint
from reliability.idempotency import Key, Replay, claim
from reliability.inbox import Change, InvalidSignature, Known, Received, StaleSignature, verify_signature
from reliability.jobs import Job, Worker
from reliability.postgres import Database
from reliability.rate_limit import Policy, RateLimiter
from reliability.redis import Cache
from reliability.telemetry import adopt_correlation

KEY = Key("POST /pay", "k-1", "fp-1")
# Nothing listens on port 1: a Redis that is away.
NOWHERE = "redis://127.0.0.1:1/0"


def use(key: Key = KEY) -> None:
    idempotency.current.set(key)


async def test_the_stored_answer_is_replayed_byte_for_byte(database: Database) -> None:
    """Status, headers and body come back as they were stored."""
    use()
    async with database.transaction() as connection:
        first = await claim(connection, "client")
        await first.store(connection, 201, {"id": 1, "name": "Chloé"}, {"location": "/x"})
    with pytest.raises(Replay) as replay:
        async with database.transaction() as connection:
            await claim(connection, "client")
    assert (replay.value.status, replay.value.headers) == (201, {"location": "/x"})
    assert json.loads(replay.value.body) == {"id": 1, "name": "Chloé"}


async def test_a_key_belongs_to_one_body_and_one_client(database: Database) -> None:
    """Another body is refused; another client has keys of its own."""
    use()
    async with database.transaction() as connection:
        await (await claim(connection, "client")).store(connection, 200, {})
    use(Key("POST /pay", "k-1", "fp-2"))
    with pytest.raises(IdempotencyKeyReused):
        async with database.transaction() as connection:
            await claim(connection, "client")
    async with database.transaction() as connection:
        assert (await claim(connection, "somebody else")).recovery_point == idempotency.STARTED


async def test_of_twenty_first_requests_one_gets_the_claim(database: Database) -> None:
    """All at once: one works, nineteen are told that it is in progress."""

    async def attempt() -> bool:
        use()
        try:
            async with database.transaction() as connection:
                await claim(connection, "client")
        except IdempotencyInProgress:
            return False
        return True

    outcomes = await asyncio.gather(*(attempt() for _ in range(20)))
    assert sorted(outcomes) == [False] * 19 + [True]


async def test_a_claim_whose_lease_ran_out_is_resumed_and_its_first_owner_fenced(database: Database) -> None:
    """The second attempt goes on from the recovery point; the first can store nothing any more."""
    use()
    async with database.transaction() as connection:
        stale = await claim(connection, "client", lease_seconds=-1)
        await stale.advance(connection, "charged", charge="ch_1")
    async with database.transaction() as connection:
        owner = await claim(connection, "client")
    assert (owner.recovery_point, owner.data) == ("charged", {"charge": "ch_1"})
    with pytest.raises(LeaseLost):
        async with database.transaction() as connection:
            await stale.store(connection, 200, {})
    async with database.transaction() as connection:
        await owner.store(connection, 200, {})


async def test_a_rolled_back_first_phase_leaves_no_key(database: Database) -> None:
    """An operation that failed before any effect may run again."""
    use()
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await claim(connection, "client")
            raise ZeroDivisionError
    async with database.transaction() as connection:
        await claim(connection, "client")


async def test_twenty_clicks_at_once_run_once(cache: Cache) -> None:
    """One runs, nineteen are blocked with the seconds left."""
    runs = 0

    async def click() -> float | None:
        nonlocal runs
        try:
            async with deduplicate(cache, "send", {"campaign": 1}):
                runs += 1
                await asyncio.sleep(0)
        except DuplicateRequest as blocked:
            return blocked.retry_after
        return None

    waits = [wait for wait in await asyncio.gather(*(click() for _ in range(20))) if wait is not None]
    assert (runs, len(waits)) == (1, 19)
    assert all(1 <= wait <= 60 for wait in waits)


async def test_a_failure_before_any_effect_gives_the_key_back_and_one_after_it_keeps_it(cache: Cache) -> None:
    """What left nothing behind may be tried at once; what did may not."""
    for effect, may_run_again in ((False, True), (True, False)):
        payload = {"effect": effect}
        with pytest.raises(ZeroDivisionError):
            async with deduplicate(cache, "send", payload) as held:
                if effect:
                    held.effect()
                raise ZeroDivisionError
        ran = False
        try:
            async with deduplicate(cache, "send", payload):
                ran = True
        except DuplicateRequest:
            pass
        assert ran is may_run_again


async def test_without_redis_a_guarded_operation_runs() -> None:
    """The guard is the fast path; the database carries the promise."""
    away = Cache(NOWHERE)
    async with deduplicate(away, "send", {}) as held:
        assert not held.had_effect
    await away.close()


def test_the_fingerprint_ignores_how_a_payload_is_written() -> None:
    """Key order, unicode form and whole floats do not matter; the operation and the values do."""
    assert fingerprint("a", {"x": 1, "y": "é"}) == fingerprint("a", {"y": "e\u0301", "x": 1.0})
    assert fingerprint("a", {"x": 1}) != fingerprint("b", {"x": 1})
    assert fingerprint("a", {"x": 1}) != fingerprint("a", {"x": 2})


@pytest.mark.parametrize("away", [False, True])
async def test_a_limit_lets_its_quota_through_and_no_more(cache: Cache, away: bool) -> None:
    """Twenty at once against five, with Redis and without: five pass, and the refusal says how long to wait."""
    used = Cache(NOWHERE) if away else cache
    limiter, policy = RateLimiter(used), Policy("login", 5, 900)

    async def attempt() -> float | None:
        try:
            await limiter.check([(policy, "10.0.0.1")])
        except RateLimited as refused:
            return refused.retry_after
        return None

    waits = await asyncio.gather(*(attempt() for _ in range(20)))
    assert waits.count(None) == 5
    assert all(0 < wait <= 900 for wait in waits if wait is not None)


async def test_a_counter_that_lost_its_expiry_gets_it_back(cache: Cache) -> None:
    """INCR without EXPIRE would lock somebody out for ever."""
    limiter, policy = RateLimiter(cache), Policy("login", 5, 900)
    await cache.client.set("rate:login:me", 1)
    await limiter.check([(policy, "me")])
    assert 0 < await cache.client.ttl("rate:login:me") <= 900


async def test_an_event_is_received_once_with_its_job(database: Database) -> None:
    """Ten deliveries at once: one row, one job, nine duplicates."""

    async def deliver() -> str | None:
        async with database.connection() as connection:
            return await inbox.receive(connection, Received("stripe", "evt_1", "t", "pi_1", b"{}"), job="process")

    answers = await asyncio.gather(*(deliver() for _ in range(10)))
    assert sorted(answers, key=str) == [None] * 9 + ["received"]
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM inbox") == 1
        assert await connection.fetchval("SELECT count(*) FROM jobs WHERE kind = 'process'") == 1


@pytest.mark.parametrize(("known", "state", "jobs"), [("false", "received", 1), ("true", "processed", 0)])
async def test_an_event_that_tells_what_is_known_has_no_job(
    database: Database, known: str, state: str, jobs: int
) -> None:
    """Ten deliveries at once: one row, and a job only for what is new."""
    event = Received("stripe", "evt_1", "t", "pi_1", b"{}")

    async def deliver() -> str | None:
        async with database.connection() as connection:
            return await inbox.receive(connection, event, known=Known(f"$9 AND {known}", (True,)), job="process")

    answers = await asyncio.gather(*(deliver() for _ in range(10)))
    assert sorted(answers, key=str) == [None] * 9 + [state]
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM inbox WHERE state = $1", state) == 1
        assert await connection.fetchval("SELECT count(*) FROM jobs WHERE kind = 'process'") == jobs


@pytest.mark.parametrize("ours", [True, False])
async def test_an_effect_and_the_end_of_its_job_are_one_statement(database: Database, ours: bool) -> None:
    """A worker that lost its lease changes nothing, neither the event nor what it means."""
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE told (name text)")
        await inbox.receive(connection, Received("stripe", "evt_1", "t", "pi_1", b"{}"), job="process")
    write = Change("INSERT INTO told SELECT $6::text WHERE EXISTS (SELECT FROM done)", ("paid",))

    async def handle(job: Job) -> None:
        async with database.connection() as connection:
            if not ours:
                await connection.execute("UPDATE jobs SET fence = fence + 1")
            await inbox.finish(connection, job.payload["inbox_id"], "processed", "flow", job, write)

    worker = Worker(database)
    worker.handle("process", handle)
    assert await worker.run_until_idle() == 1
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM told WHERE name = 'paid'") == int(ours)
        assert await connection.fetchval("SELECT state FROM inbox") == ("processed" if ours else "received")
        assert await connection.fetchval("SELECT state FROM jobs") == ("done" if ours else "running")


def sign(body: bytes, secret: str, stamp: int) -> str:
    return f"t={stamp},v1=" + hmac.new(secret.encode(), b"%d.%s" % (stamp, body), hashlib.sha256).hexdigest()


def test_a_signature_is_checked_on_both_sides_of_now_and_with_every_secret() -> None:
    """Old and future timestamps, wrong secrets and torn headers are refused; a rotated secret is not."""
    verify_signature(b"x", sign(b"x", "new", 1000), ["old", "new"], now=lambda: 1000.0)
    for stamp in (600, 1400):
        with pytest.raises(StaleSignature):
            verify_signature(b"x", sign(b"x", "new", stamp), ["new"], now=lambda: 1000.0)
    for header in (
        "",
        "t=1",
        "v1=abc",
        "t=x,v1=abc",
        "t=1,t=2,v1=a",
        sign(b"y", "new", 1000),
        sign(b"x", "new", 10**400),
    ):
        with pytest.raises(InvalidSignature):
            verify_signature(b"x", header, ["new"], now=lambda: 1000.0)


@pytest.mark.parametrize("foreign", ["", "two words", "line\nbreak", "\0", "x" * 129, "é"])
def test_a_flow_is_not_adopted_under_a_name_that_no_header_can_carry(foreign: str) -> None:
    """Metadata of a payment is anybody's to write who may use the account: the running flow stays what it was."""
    with correlation_scope("flow-1"):
        adopt_correlation(foreign)
        assert correlation_id() == "flow-1"
        adopt_correlation("flow-2")
        assert correlation_id() == "flow-2"


async def test_an_inner_deadline_shortens_and_never_extends() -> None:
    """The step that runs out of time is named."""
    with deadline.deadline_scope(0.05), deadline.deadline_scope(60):
        assert deadline.remaining(8) <= 0.05
        with pytest.raises(DeadlineExceeded) as exceeded:
            async with deadline.limit(8, "catalog.HoldStock"):
                await asyncio.Event().wait()
    assert exceeded.value.extensions == {"step": "catalog.HoldStock"}


async def test_a_second_connection_in_one_task_is_refused_at_once(database: Database) -> None:
    """In a full pool it would wait on itself."""
    async with database.connection():
        with pytest.raises(RuntimeError, match="already holds"):
            async with database.connection():
                pass


async def test_a_cancelled_transaction_rolls_back_and_its_connection_can_be_used(database: Database) -> None:
    """Cancelled in the middle: nothing is left, and nobody gets a connection in a broken state."""
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE t (n int)")
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            inside.set()
            await connection.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT count(*) FROM t") == 0
