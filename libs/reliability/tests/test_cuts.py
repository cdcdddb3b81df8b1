"""The promises, while Redis and PostgreSQL are cut off at random moments: nothing lost, nothing doubled, nobody twice.

Hypothesis draws what goes wrong with the network and when; everything behind it is real. A few examples run always,
many with `make fuzz`, where `SEED` repeats a run.
"""

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.databases import database_url
from reliability import deadline, idempotency, jobs
from reliability.circuit_breaker import CircuitBreaker, Rules
from reliability.circuit_breaker.sharing import share
from reliability.dedup import deduplicate
from reliability.errors import Conflict, DeadlineExceeded, RateLimited, Unavailable
from reliability.idempotency import Key, Replay
from reliability.ids import new_id
from reliability.jobs import worker
from reliability.postgres import Database
from reliability.rate_limit import Algorithm, Policy, RateLimiter, WhenDown
from reliability.redis import Cache
from reliability.testing import FaultProxy, Invariants
from reliability.testing.invariants import JOBS, QUIET

if TYPE_CHECKING:
    from conftest import Servers

T = TypeVar("T")

FAULTS: dict[str, Callable[[FaultProxy], None]] = {
    "cut": FaultProxy.cut,
    "drop a reply": FaultProxy.drop_reply,
    "drop a commit's reply": lambda proxy: proxy.drop_reply(b"COMMIT"),
    "refuse some": lambda proxy: proxy.refuse(times=3),
    "half-open": FaultProxy.half_open,
    "slow": lambda proxy: proxy.delay(0.005),
    "forward": FaultProxy.forward,
}
# Each fault, and the milliseconds before it.
SCRIPTS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(sorted(FAULTS))), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**32)
MOMENTS = st.lists(st.integers(0, 60), max_size=6)
"""Milliseconds from one to the next: when something is cancelled, also where that hurts most."""
EXAMPLES = pytest.mark.parametrize("examples", [8, pytest.param(150, marks=pytest.mark.long, id="long")])


@dataclass(frozen=True)
class Lab:
    """An event loop of its own, as Hypothesis is no coroutine; and what is at the far end of the network."""

    loop: asyncio.AbstractEventLoop
    postgres: str
    redis: str

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """To its end, within a minute."""
        return self.loop.run_until_complete(asyncio.wait_for(step, 60))

    async def prepare(self, statements: str) -> None:
        """Without the second after which everything else here is given up: a busy machine may need more for it."""
        connection = await asyncpg.connect(self.postgres)
        await connection.execute(statements)
        await connection.close()


@pytest.fixture
def lab(servers: "Servers", library_template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A fresh database. What hangs is given up after a second, and failed jobs come back at once."""
    monkeypatch.setattr(deadline, "DATABASE_CAP", 1.0)
    monkeypatch.setattr(worker, "_BACKOFF_BASE", 0.01)
    name = f"cuts_{new_id().replace('-', '')}"

    async def create() -> None:
        connection = await asyncpg.connect(servers.endpoints.postgres)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {library_template}")
        await connection.close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(create())
    yield Lab(loop, database_url(servers.endpoints.postgres, name), servers.endpoints.redis)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


def check(body: Callable[..., Coroutine[Any, Any, None]], lab: Lab, examples: int, **drawn: Any) -> None:
    """Runs `body` with a script of faults for so many examples; few are the same each time."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 100,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(script=SCRIPTS, **drawn)
    def each(**values: Any) -> None:
        lab.run(body(lab, **values))

    each()


async def misbehave(proxy: FaultProxy, script: list[tuple[int, str]]) -> None:
    """The network of one example; at its end all is well again."""
    for milliseconds, fault in script:
        await asyncio.sleep(milliseconds / 1000)
        FAULTS[fault](proxy)
    await asyncio.sleep(0.02)
    proxy.forward()


async def until_answered(ask: Callable[[], Awaitable[T]], patience: Iterable[int] = (), pause: float = 0.02) -> T:
    """What a client does: asks again until it has an answer. The first times it hangs up after so many milliseconds."""
    hang_up = iter(patience)
    while True:
        milliseconds = next(hang_up, None)
        try:
            async with asyncio.timeout(None if milliseconds is None else milliseconds / 1000):
                return await ask()
        except (Unavailable, DeadlineExceeded, Conflict, TimeoutError):
            await asyncio.sleep(pause)


# --- jobs


async def jobs_are_done_once(lab: Lab, script: list[tuple[int, str]], patience: list[int], drains: list[int]) -> None:
    """Enqueued with the change that caused them or not at all; the effect happens once, whoever dies of what."""
    near = Database(lab.postgres, size=2)
    await lab.prepare(
        """DROP TABLE IF EXISTS asked, effects; TRUNCATE jobs, job_runs, job_schedules;
           CREATE TABLE asked (id int PRIMARY KEY); CREATE TABLE effects (id int)"""
    )
    async with FaultProxy.before(lab.postgres) as proxy:
        far = [Database(proxy.through(lab.postgres), size=4) for _ in range(3)]

        async def ask(number: int) -> None:
            async with far[0].transaction() as connection:
                if (
                    await connection.execute("INSERT INTO asked VALUES ($1) ON CONFLICT DO NOTHING", number)
                    == "INSERT 0 1"
                ):
                    await jobs.enqueue(connection, "work", {"n": number}, max_attempts=1000)

        def working(database: Database) -> tuple[Database, asyncio.Event, asyncio.Future[None]]:
            stop = asyncio.Event()

            async def work(job: jobs.Job) -> None:
                async with database.transaction() as connection:
                    await connection.execute("INSERT INTO effects VALUES ($1)", job.payload["n"])
                    await job.complete(connection)

            one = jobs.Worker(database, concurrency=3, poll=0.02, lease=1.0, drain=2.0)
            one.handle("work", work, timeout=5.0)
            return database, stop, asyncio.ensure_future(one.run(stop))

        workers = [working(database) for database in far[1:]]

        async def roll_out() -> None:
            """Drains one worker after the other, in the middle of whatever it does, and begins another."""
            for milliseconds in drains:
                await asyncio.sleep(milliseconds / 1000)
                database, stop, drained = workers.pop(0)
                stop.set()
                await drained
                workers.append(working(database))

        asking = (until_answered(functools.partial(ask, n), patience) for n in range(8))
        await asyncio.gather(misbehave(proxy, script), roll_out(), *asking)

        books = Invariants()
        books.all_sql(near, JOBS | QUIET)
        books.sql("nothing asked for is lost", near, "SELECT id FROM asked EXCEPT SELECT id FROM effects")
        books.sql("nothing happens twice", near, "SELECT id FROM effects GROUP BY id HAVING count(*) > 1")
        books.sql("nothing happens unasked", near, "SELECT id FROM effects EXCEPT SELECT id FROM asked")
        books.sql(
            "a change and its job are one", near, "SELECT id FROM asked EXCEPT SELECT (payload->>'n')::int FROM jobs"
        )
        await until_answered(books.settled)
        for _, stop, running in workers:
            stop.set()
            await running
        await until_answered(books.check)
        for database in (near, *far):
            await database.close()


@EXAMPLES
def test_no_effect_of_a_job_is_lost_or_doubled(lab: Lab, examples: int) -> None:
    """While the network between workers and their database does what it likes, and clients and workers come and go."""
    check(jobs_are_done_once, lab, examples, patience=MOMENTS, drains=MOMENTS)


# --- idempotency


async def keys_are_used_once(lab: Lab, script: list[tuple[int, str]], clients: int, patience: list[int]) -> None:
    """One order and one charge per key, and everybody who asked with it has the same answer."""
    near = Database(lab.postgres, size=2)
    await lab.prepare(
        """DROP TABLE IF EXISTS orders, charges; TRUNCATE idempotency_keys;
           CREATE TABLE orders (id uuid, key text); CREATE TABLE charges (id uuid, order_id uuid)"""
    )
    async with FaultProxy.before(lab.postgres) as proxy:
        far = Database(proxy.through(lab.postgres), size=clients)

        async def buy(key: str) -> Any:
            idempotency.current.set(Key("POST /buy", key, "the same"))
            try:
                async with far.transaction() as connection:
                    claim = await idempotency.claim(connection, "client", lease_seconds=0.3)
                    if claim.recovery_point == idempotency.STARTED:
                        order = new_id()
                        await connection.execute("INSERT INTO orders VALUES ($1, $2)", order, key)
                        await claim.advance(connection, "ordered", order=order)
                async with far.transaction() as connection:
                    charge = new_id()
                    await connection.execute("INSERT INTO charges VALUES ($1, $2)", charge, claim.data["order"])
                    await claim.store(connection, 201, {"charge": charge})
            except Replay as replay:
                return replay.body
            return b'{"charge":"%s"}' % charge.encode()

        asking = [
            until_answered(functools.partial(buy, key), patience) for key in ("k-1", "k-2") for _ in range(clients)
        ]
        _, *answers = await asyncio.gather(misbehave(proxy, script), *asking)
        assert len(set(answers[:clients])) == len(set(answers[clients:])) == 1

        books = Invariants()
        books.sql("one order per key", near, "SELECT key FROM orders GROUP BY key HAVING count(*) <> 1")
        books.sql(
            "one charge per order",
            near,
            "SELECT o.id FROM orders o LEFT JOIN charges c ON c.order_id = o.id GROUP BY o.id HAVING count(c) <> 1",
        )
        books.sql("a charge has its order", near, "SELECT order_id FROM charges EXCEPT SELECT id FROM orders")
        books.sql("every key is answered", near, "SELECT key FROM idempotency_keys WHERE status IS NULL")
        await until_answered(books.check)
        await near.close()
        await far.close()


@EXAMPLES
def test_no_effect_under_a_key_is_lost_or_doubled(lab: Lab, examples: int) -> None:
    """While several clients send it, hang up and send it again over a network that does what it likes."""
    check(keys_are_used_once, lab, examples, clients=st.integers(1, 4), patience=MOMENTS)


# --- dedup


async def nobody_shares_a_key(lab: Lab, script: list[tuple[int, str]], seed: int) -> None:
    """Of those whom Redis let in, one holds the key at a time; who fails gives it back or keeps it, never another's."""
    chance, key, holders = random.Random(seed), new_id(), 0
    async with FaultProxy.before(lab.redis) as proxy:
        caches = [Cache(proxy.through(lab.redis), socket_timeout=0.1) for _ in range(4)]

        async def click(number: int) -> None:
            nonlocal holders
            await asyncio.sleep(chance.uniform(0, 0.1))
            claim = deduplicate(caches[number % 4], "cuts", key)
            outcome = await claim._take()
            if outcome != "allowed":
                return  # blocked, or unguarded: Redis did not answer, and the database decides
            holders += 1
            assert holders == 1, "two owners"
            await asyncio.sleep(chance.uniform(0, 0.02))
            holders -= 1
            if chance.random() < 0.5:
                await claim.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
            else:
                holders += 1  # it has succeeded: the key stays

        await asyncio.gather(misbehave(proxy, script), *(click(number) for number in range(12)))
        for cache in caches:
            await cache.close()


@EXAMPLES
def test_a_key_never_has_two_owners(lab: Lab, examples: int) -> None:
    """While replies are lost and connections cut between the clicks and Redis."""
    check(nobody_shares_a_key, lab, examples, seed=SEEDS)


# --- limits


async def a_quota_is_a_quota(
    lab: Lab, script: list[tuple[int, str]], quota: int, algorithm: Algorithm, when_down: WhenDown
) -> None:
    """Where nothing may pass uncounted, no more than the quota passes; where each process has a share, one more."""
    policy = Policy(f"cuts-{new_id()[:23]}", quota, 3600, algorithm, when_down=when_down)
    async with FaultProxy.before(lab.redis) as proxy:
        caches = [Cache(proxy.through(lab.redis), socket_timeout=0.1) for _ in range(2)]
        limiters = [RateLimiter(cache, processes=2) for cache in caches]
        admitted = 0

        async def ask(limiter: RateLimiter, number: int) -> None:
            nonlocal admitted
            await asyncio.sleep(number * 0.004)
            with contextlib.suppress(RateLimited):
                await limiter.check([(policy, "everybody")])
                admitted += 1

        asking = [ask(limiters[number % 2], number) for number in range(3 * quota + 6)]
        await asyncio.gather(misbehave(proxy, script), *asking)
        share_of_each = -(-quota // 2)
        most = quota if when_down is WhenDown.DENY else quota + 2 * share_of_each
        assert admitted <= most
        for cache in caches:
            await cache.close()


@EXAMPLES
def test_no_more_pass_than_are_allowed(lab: Lab, examples: int) -> None:
    """While Redis comes and goes under both algorithms."""
    kinds = {"algorithm": st.sampled_from(Algorithm), "when_down": st.sampled_from([WhenDown.DENY, WhenDown.SHARE])}
    check(a_quota_is_a_quota, lab, examples, quota=st.integers(1, 8), **kinds)


# --- breakers


async def breakers_come_to_agree(lab: Lab, script: list[tuple[int, str]], seed: int) -> None:
    """Whatever operators do in two processes meanwhile; and no probe too many is ever let through."""
    chance, name = random.Random(seed), f"cuts-{new_id()}"
    rules = Rules(failures=2, open_seconds=0.02, open_cap=0.04, permits=2)
    async with FaultProxy.before(lab.redis) as proxy:
        caches = [Cache(proxy.through(lab.redis), socket_timeout=0.1) for _ in range(2)]
        both = [CircuitBreaker(name, rules) for _ in caches]
        sharing = [
            asyncio.ensure_future(share(cache, [breaker], every=0.02))
            for cache, breaker in zip(caches, both, strict=True)
        ]

        async def calls(breaker: CircuitBreaker) -> None:
            for _ in range(30):
                await asyncio.sleep(chance.uniform(0, 0.01))
                with contextlib.suppress(Unavailable, OSError), breaker.allow():
                    assert len(breaker._holders) <= rules.permits
                    await asyncio.sleep(0.001)
                    if chance.random() < 0.5:
                        raise OSError

        async def operators() -> None:
            for _ in range(6):
                await asyncio.sleep(chance.uniform(0, 0.05))
                breaker = chance.choice(both)
                chance.choice([breaker.force_open, breaker.disable, breaker.reset])()

        await asyncio.gather(misbehave(proxy, script), operators(), *(calls(breaker) for breaker in both))
        await asyncio.sleep(0.2)  # longer than an answer of Redis may take: which act was the last is beyond doubt
        last = chance.choice(both)
        chance.choice([last.force_open, last.disable])()
        held = last.state

        books = Invariants()

        async def others() -> list[object]:
            return [breaker.snapshot() for breaker in both if breaker.state is not held]

        books.add("the last hold is seen everywhere", others)
        await books.settled()
        for task in sharing:
            task.cancel()
        await asyncio.gather(*sharing, return_exceptions=True)
        for cache in caches:
            await cache.close()


@EXAMPLES
def test_what_is_held_by_hand_is_held_everywhere_in_the_end(lab: Lab, examples: int) -> None:
    """However Redis came and went between those who told and those who were to hear."""
    check(breakers_come_to_agree, lab, examples, seed=SEEDS)
