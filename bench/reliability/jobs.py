"""Queues on one PostgreSQL: enqueue beside a change, empty handlers, and a claim among the dead."""

from bench.reliability.harness import Comparison, Contender, Floor, Role, Work, repeated
from bench.reliability.queues import Ours, PgQueuer, Procrastinate, Queue
from bench.reliability.stage import Stage

__all__ = ["claims", "comparisons"]

DEAD = 100_000
HANDLED = 500
BARE = "two INSERTs in a transaction"


async def comparisons(stage: Stage) -> list[Comparison]:
    """Each queue in its own database, with a table of the application's beside it."""
    queues = await _open(stage, "bench")
    return [await _enqueue(stage, queues), _handle(await _open(stage, "bench_new"))]


async def claims(stage: Stage) -> list[Comparison]:
    """In databases that have seen many jobs."""
    return [await _claim(await _open(stage, "bench_old"))]


async def _open(stage: Stage, name: str) -> list[Queue]:
    return [await kind.open(stage, name) for kind in (Ours, PgQueuer, Procrastinate)]


def _contenders(queues: list[Queue], work: list[tuple[Work, Work | None, Work | None]]) -> list[Contender]:
    return [
        Contender(queue.name, Role.OURS if isinstance(queue, Ours) else Role.PEER, *steps)
        for queue, steps in zip(queues, work, strict=True)
    ]


async def _enqueue(stage: Stage, queues: list[Queue]) -> Comparison:
    bare = await stage.connect(await stage.create("bench_floor", library=False))
    await bare.execute("CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    await bare.execute(
        "CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text, payload jsonb, "
        "run_at timestamptz DEFAULT now())"
    )

    async def floor() -> None:
        async with bare.transaction():
            await bare.execute("INSERT INTO orders DEFAULT VALUES")
            await bare.execute("INSERT INTO job (kind, payload) VALUES ($1, $2)", "work", {"n": 1})

    return Comparison(
        "jobs: an order and its job in one transaction",
        "On the caller's connection, committed to disk. procrastinate over psycopg, the others over asyncpg.",
        [
            *_contenders(queues, [(repeated(queue.order), None, None) for queue in queues]),
            Contender(BARE, Role.FLOOR, repeated(floor)),
        ],
        [Floor(BARE, 1.3)],
    )


def _handle(queues: list[Queue]) -> Comparison:
    return Comparison(
        "jobs: empty handlers",
        f"{HANDLED} jobs are waiting; one worker of twenty slots runs them all and has recorded their ends. PgQueuer "
        "deletes what is done and procrastinate keeps it, as ours does.",
        _contenders(queues, [(queue.drain, queue.fill, queue.check) for queue in queues]),
        times=HANDLED,
        rounds=12,
    )


async def _claim(queues: list[Queue]) -> Comparison:
    for queue in queues:
        await queue.bury(DEAD)
    return Comparison(
        f"jobs: one claim after {DEAD:,} others",
        "So many jobs have been claimed and finished, each as its queue leaves it behind, and nothing was vacuumed.",
        _contenders(queues, [(repeated(queue.claim), queue.fill, queue.clear) for queue in queues]),
        times=100,
        rounds=20,
    )
