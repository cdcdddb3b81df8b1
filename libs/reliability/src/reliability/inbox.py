"""Received webhooks: stored with the job that handles them in one statement, so a 200 is a promise kept.

The unique (source, event id) makes the sixth delivery a duplicate; the job's order key keeps events of one
object in the order they came.
"""

import functools
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from reliability.context import correlation_id
from reliability.errors import InvalidRequest
from reliability.jobs.model import Job
from reliability.jobs.offer import NO_OFFER, Offer
from reliability.jobs.queue import RUNNING, SIGNAL, completing, enqueueing
from reliability.postgres import Connection, signal
from reliability.telemetry import carrier

__all__ = [
    "Change",
    "Gathered",
    "InvalidSignature",
    "Known",
    "Received",
    "StaleSignature",
    "count_parked",
    "finish",
    "keep",
    "park",
    "purge",
    "receive",
    "receive_many",
    "replay",
    "stored",
    "verify_signature",
]

_SECONDS = re.compile(r"[0-9]{1,15}")


class InvalidSignature(InvalidRequest):
    """Not signed with any of our secrets."""

    code, title = "invalid_signature", "The signature does not match"


class StaleSignature(InvalidRequest):
    """Signed too long ago, or in the future: a replay or a wrong clock."""

    code, title = "stale_signature", "The signature's timestamp is outside the tolerance"


@dataclass(frozen=True, slots=True)
class Received:
    """An event as it came in."""

    source: str
    event_id: str
    event_type: str
    object_key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Gathered:
    """An event that is stored with others, its flow, and the trace that its job continues."""

    event: Received
    correlation_id: str
    trace: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """A condition in SQL under which an event tells nothing new. Its values are numbered from `$9`.

    Once true it must stay true: another statement may be changing what it looks at.
    """

    condition: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """An effect that is one statement, or none when that is empty. Its values are numbered from `$6`.

    It runs with the end of its job in one statement, and must change nothing unless `EXISTS (SELECT FROM done)`:
    else the job is somebody else's by now.
    """

    statement: str
    values: tuple[Any, ...] = ()


_NOTHING: Final = Change("")
_RECEIVED = """
    INSERT INTO inbox (source, event_id, event_type, object_key, body, correlation_id)
    VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id, state
"""
_RECEIVED_UNLESS = """
    INSERT INTO inbox (source, event_id, event_type, object_key, body, correlation_id, state, finished_at)
    SELECT $1, $2, $3, $4, $5, $6, CASE WHEN known THEN 'processed' ELSE 'received' END, CASE WHEN known THEN now() END
      FROM (SELECT {} AS known) AS told
        ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id, state
"""

# For an event nobody does anything about: there is nothing to wait for.
_KEEP = """
INSERT INTO inbox (source, event_id, event_type, object_key, body, correlation_id, state, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, 'ignored', now())
    ON CONFLICT (source, event_id) DO NOTHING
RETURNING id
"""
# One statement: nobody else can find the event received and no job for it. The dead letter that parked it is used
# again; an event that was finished gets a new job.
_REPLAY = """
WITH replayed AS (
    UPDATE inbox SET state = 'received', finished_at = NULL WHERE id = $1 AND state <> 'received'
    RETURNING id, source, object_key, correlation_id),
redriven AS (
    UPDATE jobs SET state = 'queued', attempt = 0, run_at = now(), finished_at = NULL
     WHERE id = (SELECT max(id) FROM jobs
                  WHERE kind = $2 AND state = 'parked' AND payload ->> 'inbox_id' = $1::text)
       AND EXISTS (SELECT FROM replayed)
    RETURNING id),
enqueued AS (
    INSERT INTO jobs (kind, payload, order_key, max_attempts, correlation_id, trace)
    SELECT $2, jsonb_build_object('inbox_id', id), source || ':' || object_key, $3, correlation_id, $4
      FROM replayed WHERE NOT EXISTS (SELECT FROM redriven))
SELECT count(*) FROM replayed
"""
_PURGE = """
DELETE FROM inbox WHERE id IN (
    SELECT id FROM inbox
     WHERE received_at < now() - $1::int * interval '1 day' AND state <> 'received' LIMIT 10000)
"""


@functools.cache
def _receiving(condition: str, job: str, max_attempts: int) -> str:
    enqueued = enqueueing(
        "(SELECT id FROM received WHERE state = 'received') AS fresh",
        job,
        "jsonb_build_object('inbox_id', id)",
        order_key="$1 || ':' || $4",
        correlation="$6",
        trace="$7::jsonb",
        max_attempts=max_attempts,
        lease="$8",
    )
    return f"""
WITH received AS ({_RECEIVED_UNLESS.format(condition) if condition else _RECEIVED}),
enqueued AS ({enqueued})
SELECT state, (SELECT to_jsonb(enqueued) FROM enqueued) AS job FROM received
"""


# In the order they came, the jobs too: those of one object are handled in it.
@functools.cache
def _receiving_many(job: str, max_attempts: int) -> str:
    enqueued = enqueueing(
        "(SELECT received.*, told.trace FROM received JOIN told USING (event_id) ORDER BY place) AS fresh",
        job,
        "jsonb_build_object('inbox_id', id)",
        order_key="$1 || ':' || object_key",
        correlation="correlation_id",
        trace="trace",
        max_attempts=max_attempts,
    )
    return f"""
WITH told AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::jsonb[]) WITH ORDINALITY
           AS told (event_id, event_type, object_key, body, correlation_id, trace, place)),
received AS (
    INSERT INTO inbox (source, event_id, event_type, object_key, body, correlation_id)
    SELECT $1, event_id, event_type, object_key, body, correlation_id FROM told ORDER BY place
        ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id, event_id, object_key, correlation_id),
enqueued AS ({enqueued})
SELECT event_id FROM received
"""


@functools.cache
def _finishing(change: str) -> str:
    along = f",\nchanged AS ({change})" if change else ""
    return f"""
WITH done AS ({completing("$4", "$5")}),
finished AS (
    UPDATE inbox SET state = $2, finished_at = now(), correlation_id = $3
     WHERE id = $1 AND EXISTS (SELECT FROM done)){along}
SELECT count(*) FROM done
"""


async def receive(
    connection: Connection,
    event: Received,
    *,
    job: str,
    known: Known | None = None,
    offer: Offer = NO_OFFER,
    max_attempts: int = 12,
) -> str | None:
    """Stores the event: `received` and with a `job` for it, or `processed` and without one when it tells nothing new.

    None when it had been received before. With an `offer` of the job's kind this is a transaction of its own, and the
    job begins here and now.
    """
    statement = _receiving(known.condition if known else "", job, max_attempts)
    values = (*_values(event), carrier())
    told = known.values if known else ()
    try:
        stored = await connection.fetchrow(statement, *values, offer.lease, *told)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != RUNNING:
            raise
        # Another event of the same object was born at the same moment: this one waits behind it.
        stored = await connection.fetchrow(statement, *values, 0.0, *told)
    if stored is None:
        return None
    offer.accept(stored["job"])
    return str(stored["state"])


async def receive_many(
    connection: Connection, gathered: Sequence[Gathered], *, job: str, max_attempts: int = 12
) -> list[str | None]:
    """`receive` for events of one source in one statement: for each what that answers, in their order.

    Of several with one id the first is received. Raises `ValueError` for none, and for several sources.
    """
    (source,) = {each.event.source for each in gathered}
    first = {each.event.event_id: each for each in reversed(gathered)}
    told = [each for each in gathered if first[each.event.event_id] is each]
    rows = await connection.fetch(
        _receiving_many(job, max_attempts),
        source,
        [each.event.event_id for each in told],
        [each.event.event_type for each in told],
        [each.event.object_key for each in told],
        [each.event.body for each in told],
        [each.correlation_id for each in told],
        [dict(each.trace) for each in told],
    )
    if rows:
        signal(SIGNAL)
    fresh = {row["event_id"] for row in rows}
    return [
        "received" if each.event.event_id in fresh and first[each.event.event_id] is each else None for each in gathered
    ]


async def keep(connection: Connection, event: Received) -> bool:
    """Stores an event that is `ignored` as it comes, without a job; False when it had been received before.

    `replay` lets a job handle it, should somebody know one day what to do with it.
    """
    return await connection.fetchval(_KEEP, *_values(event)) is not None


def _values(event: Received) -> tuple[str | bytes, ...]:
    return event.source, event.event_id, event.event_type, event.object_key, event.body, correlation_id()


async def stored(connection: Connection, inbox_id: int) -> "asyncpg.Record":
    """The row of a received event. Raises `LookupError` when it is gone."""
    row = await connection.fetchrow("SELECT * FROM inbox WHERE id = $1", inbox_id)
    if row is None:
        message = f"inbox row {inbox_id} is gone"
        raise LookupError(message)
    return row


async def finish(
    connection: Connection, inbox_id: int, state: str, flow: str, job: Job, change: Change = _NOTHING
) -> None:
    """Marks an event `processed` or `ignored`, notes which flow it turned out to belong to, and ends its job.

    One statement, and `change` in it, so that an event with one effect or none needs no transaction. Raises
    `LeaseLost`.
    """
    done = await connection.fetchval(
        _finishing(change.statement), inbox_id, state, flow, job.id, job.fence, *change.values
    )
    job.settled(ours=bool(done))


async def park(connection: Connection, inbox_id: int) -> None:
    """Marks an event whose job ran out of attempts."""
    await connection.execute("UPDATE inbox SET state = 'parked', finished_at = now() WHERE id = $1", inbox_id)


async def replay(connection: Connection, inbox_id: int, *, job: str, max_attempts: int = 12) -> bool:
    """Lets `job` handle a finished or parked event again; False when it is being handled, or there is none."""
    done = await connection.fetchval(_REPLAY, inbox_id, job, max_attempts, carrier())
    signal(SIGNAL)
    return bool(done)


async def purge(connection: Connection, *, days: int = 90) -> int:
    """Deletes events past retention, 10,000 at most, but none that waits to be handled; returns how many."""
    return int((await connection.execute(_PURGE, days)).split()[-1])


async def count_parked(connection: Connection) -> int:
    """How many events wait for an operator."""
    return int(await connection.fetchval("SELECT count(*) FROM inbox WHERE state = 'parked'"))


def verify_signature(
    body: bytes, header: str, secrets: Sequence[str], *, tolerance: float = 300.0, now: Callable[[], float] = time.time
) -> None:
    """Checks a `t=...,v1=...` HMAC-SHA256 signature against each secret in constant time.

    An empty secret, as a stray comma in a setting makes one, matches nothing: anybody could sign with it.
    The tolerance, in seconds, has two sides: a timestamp from the future is refused as well. Raises
    `InvalidSignature` or `StaleSignature`. Source: https://docs.stripe.com/webhooks#verify-manually
    """
    parts: dict[str, list[str]] = {"t": [], "v1": []}
    for part in header.split(","):
        name, _, value = part.partition("=")
        parts.setdefault(name.strip(), []).append(value)
    stamps, given = parts["t"], parts["v1"]
    if len(stamps) != 1 or not _SECONDS.fullmatch(stamps[0]) or not given:
        message = "The signature header is missing or malformed."
        raise InvalidSignature(message)
    signed = stamps[0].encode() + b"." + body
    expected = [hmac.digest(secret.encode(), signed, "sha256").hex().encode() for secret in secrets if secret]
    if not any(hmac.compare_digest(mine, theirs.encode()) for mine in expected for theirs in given):
        message = "The signature was not made with a secret we know."
        raise InvalidSignature(message)
    if abs(now() - int(stamps[0])) > tolerance:
        message = f"The signature is more than {tolerance:.0f} seconds away from our clock."
        raise StaleSignature(message)
