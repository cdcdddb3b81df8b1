"""A webhook stored with its job in one statement, and a job stored beside a change."""

from bench.reliability.harness import Comparison, Contender, Floor, Role, repeated
from bench.reliability.stage import Stage
from reliability import inbox, jobs
from reliability.ids import new_id
from reliability.inbox import Received

__all__ = ["comparisons"]

BARE = "one INSERT"
BODY = b'{"id": "evt", "type": "payment_intent.succeeded", "data": {"object": {"id": "pi"}}}'

# As wide as an inbox row, with the two keys that nobody can do without.
_FLOOR = """
CREATE TABLE floor (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source         text        NOT NULL,
    event_id       text        NOT NULL,
    event_type     text        NOT NULL,
    object_key     text        NOT NULL,
    body           bytea       NOT NULL,
    state          text        NOT NULL DEFAULT 'received',
    correlation_id text        NOT NULL DEFAULT '',
    received_at    timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    UNIQUE (source, event_id)
)
"""
_INSERT = """
INSERT INTO floor (source, event_id, event_type, object_key, body, correlation_id) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (source, event_id) DO NOTHING RETURNING id
"""


async def comparisons(stage: Stage) -> list[Comparison]:
    """Each its own transaction, flushed to disk."""
    url = await stage.create("bench_inbox", library=True)
    connection, bare = await stage.connect(url), await stage.connect(url)
    await bare.execute(_FLOOR)

    async def receive() -> None:
        event = Received("bench", new_id(), "payment_intent.succeeded", new_id(), BODY)
        await inbox.receive(connection, event, job="process_event")

    async def enqueue() -> None:
        await jobs.enqueue(connection, "work", {"n": 1}, unique_key=new_id())

    async def insert() -> None:
        await bare.fetchval(_INSERT, "bench", new_id(), "payment_intent.succeeded", new_id(), BODY, "")

    floor = Contender(BARE, Role.FLOOR, repeated(insert))
    about = "The floor stores a row as wide as an inbox row, with its primary key and its unique event id; both commit."
    return [
        Comparison(
            "inbox: event and job in one statement",
            about,
            [Contender("inbox.receive", Role.OURS, repeated(receive)), floor],
            [Floor(BARE, 1.3)],
            why="It is two rows and the keys of two tables for one of each; how dear that is beside the flush of the "
            "commit depends on the disk.",
        ),
        Comparison(
            "jobs: one job with a unique key",
            about,
            [Contender("jobs.enqueue", Role.OURS, repeated(enqueue)), floor],
            [Floor(BARE, 1.3)],
        ),
    ]
