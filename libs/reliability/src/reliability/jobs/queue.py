"""Every statement on the job tables.

Enqueueing is one INSERT on the caller's connection: it commits or vanishes with the change that caused it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg

from reliability.context import correlation_id
from reliability.jobs.model import Job
from reliability.postgres import Connection, signal
from reliability.telemetry import carrier

__all__ = [
    "DEFAULT_MAX_ATTEMPTS",
    "LOST",
    "RUNNING",
    "SIGNAL",
    "NewJob",
    "completing",
    "count_dead_letters",
    "enqueue",
    "enqueue_many",
    "enqueueing",
    "redrive",
    "redriving",
    "wake",
]

SIGNAL = "jobs"
"""What a commit that enqueued says to the workers of its process (see `postgres.signal`)."""
DEFAULT_MAX_ATTEMPTS = 10
"""Attempts of a job, the first included."""
LOST = "the worker that held it died or hung"
"""The error of an attempt that nobody ended."""
RUNNING: Final = "jobs_order_running"
"""The index that holds one running job per order key."""
_ORPHAN_SECONDS: Final = 3600.0

_ENQUEUE = """
INSERT INTO jobs (kind, payload, unique_key, order_key, max_attempts, run_at, correlation_id, trace)
SELECT kind, payload, unique_key, order_key, max_attempts, now() + delay * interval '1 second', $7, $8
  FROM unnest($1::text[], $2::jsonb[], $3::text[], $4::text[], $5::int[], $6::float8[])
       AS new (kind, payload, unique_key, order_key, max_attempts, delay)
    ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id
"""

# One at a time is the usual case, and cheaper without the arrays.
_ENQUEUE_ONE = """
INSERT INTO jobs (kind, payload, unique_key, order_key, max_attempts, run_at, correlation_id, trace)
VALUES ($1, $2, $3, $4, $5, now() + $6::float8 * interval '1 second', $7, $8)
    ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id
"""

# A worker that died had its attempt counted when it claimed.
_RECOVER = """
UPDATE jobs SET state = 'queued', lease_until = NULL, run_at = now(), last_error = $1
 WHERE id IN (SELECT id FROM jobs WHERE state = 'running' AND lease_until < now() AND attempt < max_attempts
                 FOR UPDATE SKIP LOCKED)
"""

# Whoever knows the kind has the hook that must run when it parks; while a new version is rolled out, the old workers
# do not. Of a kind that nobody knows any more the hook has gone too.
_EXHAUSTED = """
SELECT id, kind, payload, attempt, max_attempts, fence, correlation_id, trace,
       extract(epoch FROM now() - created_at)::float8 AS age, order_key
  FROM jobs WHERE state = 'running' AND lease_until < now() AND attempt >= max_attempts
   AND (kind = ANY($1::text[]) OR lease_until < now() - $2 * interval '1 second') ORDER BY id LIMIT 100
"""

# The running one is looked for on both sides: ids are handed out before commits, and a redriven job has an old
# one. Two claims at once may both miss it; then the unique index on running jobs refuses the second.
_CLAIM = """
WITH due AS (
    SELECT id FROM jobs AS candidate
     WHERE state = 'queued' AND run_at <= now() AND kind = ANY($1::text[])
       AND (order_key IS NULL OR NOT EXISTS (
            SELECT FROM jobs AS earlier
             WHERE earlier.order_key = candidate.order_key
               AND (earlier.state = 'running' OR (earlier.state = 'queued' AND earlier.id < candidate.id))))
     ORDER BY run_at, id
     LIMIT $2
       FOR UPDATE SKIP LOCKED)
UPDATE jobs
   SET state = 'running', attempt = attempt + 1, fence = fence + 1,
       lease_until = now() + $3 * interval '1 second'
  FROM due
 WHERE jobs.id = due.id
RETURNING jobs.id, kind, payload, attempt, max_attempts, fence, correlation_id, trace,
          extract(epoch FROM now() - created_at)::float8 AS age, order_key
"""

# A handler that completes its job holds the row until it commits: waiting for that would cost the other jobs their
# lease. Such a row is ours, and has no need of a renewal.
_HEARTBEAT = """
WITH ours AS (
    SELECT id, fence FROM jobs JOIN unnest($1::bigint[], $2::bigint[]) AS held (id, fence) USING (id, fence)
     WHERE state = 'running'),
free AS (
    SELECT id FROM jobs WHERE (id, fence) IN (SELECT id, fence FROM ours) AND state = 'running' FOR UPDATE SKIP LOCKED),
renewed AS (
    UPDATE jobs SET lease_until = now() + $3 * interval '1 second' FROM free WHERE jobs.id = free.id)
SELECT id, fence FROM ours
"""

_COMPLETE = """
UPDATE jobs SET state = 'done', finished_at = now(), lease_until = NULL, last_error = NULL
  FROM unnest($1::bigint[], $2::bigint[]) AS held (id, fence)
 WHERE jobs.id = held.id AND jobs.fence = held.fence AND state = 'running'
RETURNING jobs.id, jobs.fence
"""

_GIVE_BACK = """
UPDATE jobs SET state = 'queued', lease_until = NULL, attempt = attempt - 1, run_at = now() + $3 * interval '1 second'
 WHERE id = $1 AND fence = $2 AND state = 'running'
"""

_FAIL = """
UPDATE jobs SET state = 'queued', lease_until = NULL, run_at = now() + $3 * interval '1 second', last_error = $4
 WHERE id = $1 AND fence = $2 AND state = 'running'
"""

_WAIT = """
UPDATE jobs
   SET state = 'queued', lease_until = NULL, attempt = attempt - 1, run_at = now() + $3 * interval '1 second',
       last_error = $4
 WHERE id = $1 AND fence = $2 AND state = 'running'
"""

_PARK = """
UPDATE jobs SET state = 'parked', lease_until = NULL, finished_at = now(), last_error = $3
 WHERE id = $1 AND fence = $2 AND state = 'running'
"""

_PARK_LOST = """
UPDATE jobs SET state = 'parked', lease_until = NULL, finished_at = now(), last_error = $3
 WHERE id = $1 AND fence = $2 AND state = 'running' AND lease_until < now()
"""

_REDRIVE = """
UPDATE jobs SET state = 'queued', finished_at = NULL, attempt = 0, run_at = now() WHERE id = $1 AND state = 'parked'
"""

_DEAD_LETTERS = """
SELECT id, kind, attempt, last_error, correlation_id, created_at, finished_at FROM jobs
 WHERE state = 'parked' AND ($1::timestamptz IS NULL OR (finished_at, id) < ($1, $2))
 ORDER BY finished_at DESC, id DESC LIMIT $3
"""

# Each half reads an index that holds nothing else.
_PRUNE = """
DELETE FROM jobs WHERE id IN (
    (SELECT id FROM jobs
      WHERE state = 'done' AND unique_key IS NULL AND finished_at < now() - $1::int * interval '1 day' LIMIT 5000)
    UNION ALL
    (SELECT id FROM jobs
      WHERE state = 'done' AND unique_key IS NOT NULL AND finished_at < now() - $2::int * interval '1 day' LIMIT 5000))
"""

_DEPTH = """
SELECT (SELECT count(*) FROM jobs WHERE state = 'queued') AS queued,
       (SELECT count(*) FROM jobs WHERE state = 'running') AS running,
       coalesce((SELECT extract(epoch FROM now() - min(run_at)) FROM jobs WHERE state = 'queued' AND run_at <= now()),
                0)::float8 AS age
"""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue.

    `unique_key`: the second job of this kind with the same key is not accepted, also after the first
    completed. `order_key`: jobs with the same key run one after the other. `delay` is in seconds.
    """

    kind: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    unique_key: str | None = None
    order_key: str | None = None
    delay: float = 0.0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS


async def enqueue_many(connection: Connection, jobs: Iterable[NewJob]) -> list[int]:
    """Adds jobs in one statement on the caller's connection; ids of those that were accepted."""
    new = list(jobs)
    rows = await connection.fetch(
        _ENQUEUE,
        [job.kind for job in new],
        [dict(job.payload) for job in new],
        [job.unique_key for job in new],
        [job.order_key for job in new],
        [job.max_attempts for job in new],
        [job.delay for job in new],
        correlation_id(),
        carrier(),
    )
    if any(job.delay <= 0 for job in new):
        signal(SIGNAL)
    return [row["id"] for row in rows]


async def enqueue(
    connection: Connection,
    kind: str,
    payload: Mapping[str, Any],
    *,
    unique_key: str | None = None,
    order_key: str | None = None,
    delay: float = 0.0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
) -> bool:
    """Adds one job in the caller's transaction; False when its `unique_key` was used before.

    It is due after `delay` seconds; the keys are those of `NewJob`.
    """
    row = (kind, dict(payload), unique_key, order_key, max_attempts, delay, correlation_id(), carrier())
    job_id = await connection.fetchval(_ENQUEUE_ONE, *row)
    if delay <= 0:  # a worker that looks now would not find it
        signal(SIGNAL)
    return job_id is not None


def enqueueing(
    source: str,
    kind: str,
    payload: str,
    *,
    correlation: str,
    trace: str,
    unique_key: str = "NULL",
    order_key: str = "NULL",
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    delay: str = "0",
    lease: str = "",
) -> str:
    """The INSERT of jobs for a WITH of somebody else's statement: one for each row of `source`, a table or a CTE.

    It saves the round trip of `enqueue` where one statement does all the rest. All but `kind` and `max_attempts` is
    SQL of that statement: parameters, columns of `source`. `trace` is what `telemetry.carrier()` gives, `delay` is in
    seconds. Call `wake` when the statement has run.

    With the `lease` of an `Offer`, as a parameter, the INSERT returns a row for `Offer.accept`, as `to_jsonb` makes it
    an object, and nobody needs to be woken. The statement must be a transaction of its own. It fails with a
    `UniqueViolationError` of `RUNNING` when another job with the same order key is born at the same moment.
    """
    keyed = "(kind, unique_key) WHERE unique_key IS NOT NULL DO NOTHING"
    if not lease:
        return f"""
    INSERT INTO jobs (kind, payload, unique_key, order_key, max_attempts, run_at, correlation_id, trace)
    SELECT '{kind}', {payload}, {unique_key}, {order_key}, {max_attempts}, now() + {delay} * interval '1 second',
           {correlation}, {trace}
      FROM {source}
        ON CONFLICT {keyed}
    """
    # The order key is worked out before it is compared: among the jobs its words would mean their columns.
    return f"""
    INSERT INTO jobs (kind, payload, unique_key, order_key, max_attempts, run_at, correlation_id, trace,
                      state, attempt, fence, lease_until)
    SELECT '{kind}', {payload}, {unique_key}, ordering_key, {max_attempts}, now() + {delay} * interval '1 second',
           {correlation}, {trace},
           CASE WHEN in_hand THEN 'running' ELSE 'queued' END, in_hand::int, in_hand::int,
           CASE WHEN in_hand THEN now() + {lease}::float8 * interval '1 second' END
      FROM {source},
           LATERAL (SELECT ({order_key})::text AS ordering_key) AS ordered,
           LATERAL (SELECT {lease}::float8 > 0 AND NOT EXISTS (
                           SELECT FROM jobs AS earlier
                            WHERE earlier.order_key = ordering_key AND earlier.state IN ('queued', 'running'))
                    AS in_hand) AS birth
        ON CONFLICT {keyed}
    RETURNING id, kind, payload, attempt, max_attempts, fence, correlation_id, trace, order_key, state
    """


def completing(job: str, fence: str) -> str:
    """What `Job.complete` does, for a WITH of somebody else's statement; it returns a row when the job was still ours.

    `job` and `fence` are SQL, usually two parameters. The statement must change nothing when no row comes back, and
    its caller tells the job with `Job.settled`.
    """
    return f"""
    UPDATE jobs SET state = 'done', finished_at = now(), lease_until = NULL, last_error = NULL
     WHERE id = {job} AND fence = {fence} AND state = 'running'
    RETURNING id
    """


def redriving(source: str, kind: str, *, unique_key: str, seconds: float) -> str:
    """The UPDATE, for a WITH of somebody else's statement, that tries dead letters again which nobody has redriven.

    One attempt each: for every row of `source` the job of that `kind` and `unique_key`, SQL that names its table, when
    it was parked more than `seconds` ago. So what is looked for again and again is tried as often as that, and is a
    dead letter in between, which an operator sees. It returns a row for each; call `wake` when there are any.
    """
    return f"""
    UPDATE jobs SET state = 'queued', attempt = max_attempts - 1, run_at = now(), finished_at = NULL
      FROM {source}
     WHERE jobs.kind = '{kind}' AND jobs.unique_key = {unique_key} AND jobs.state = 'parked'
       AND jobs.finished_at < now() - interval '{seconds} seconds'
    RETURNING jobs.id
    """


def wake() -> None:
    """Tells the workers of this process, once the held connection's work has committed, that there is a job."""
    signal(SIGNAL)


def _storable(text: str) -> str:
    """What PostgreSQL's text can hold: an error message may quote anything, NUL and lone surrogates included."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _job(row: "asyncpg.Record") -> Job:
    payload = row["payload"] if isinstance(row["payload"], dict) else json.loads(row["payload"])
    return Job(
        id=row["id"],
        kind=row["kind"],
        payload=payload,
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        fence=row["fence"],
        correlation_id=row["correlation_id"],
        trace=row["trace"],
        age=row["age"],
        order_key=row["order_key"],
    )


async def claim(connection: Connection, kinds: Sequence[str], limit: int, lease: float) -> list[Job]:
    """Takes due jobs, `limit` at most, for `lease` seconds; each claim counts as an attempt."""
    return [_job(row) for row in await connection.fetch(_CLAIM, kinds, limit, lease)]


async def recover(connection: Connection, kinds: Sequence[str]) -> list[Job]:
    """Queues jobs whose lease ran out; returns those that died on their last attempt, for `park_lost`.

    Of these only the `kinds`, and others when nobody has parked them for an hour.
    """
    await connection.execute(_RECOVER, LOST)
    return [_job(row) for row in await connection.fetch(_EXHAUSTED, kinds, _ORPHAN_SECONDS)]


async def park_lost(connection: Connection, job: Job) -> bool:
    """Makes a job that died on its last attempt a dead letter; False when it lives, or another worker was first."""
    return await connection.execute(_PARK_LOST, job.id, job.fence, LOST) == "UPDATE 1"


async def heartbeat(connection: Connection, held: Sequence[Job], lease: float) -> set[tuple[int, int]]:
    """Renews leases for `lease` seconds; id and fence of the claims that are still ours."""
    rows = await connection.fetch(_HEARTBEAT, [job.id for job in held], [job.fence for job in held], lease)
    return {(row["id"], row["fence"]) for row in rows}


async def complete(connection: Connection, ended: Sequence[Job]) -> set[tuple[int, int]]:
    """Marks jobs done that had no transaction to do it in; id and fence of those that were still ours."""
    rows = await connection.fetch(_COMPLETE, [job.id for job in ended], [job.fence for job in ended])
    return {(row["id"], row["fence"]) for row in rows}


async def give_back(connection: Connection, job: Job, delay: float = 0.0) -> None:
    """Puts a job back as if it had not been claimed, due after `delay` seconds."""
    await connection.execute(_GIVE_BACK, job.id, job.fence, delay)


async def fail(connection: Connection, job: Job, delay: float, error: str) -> None:
    """Lets the job be tried again after `delay` seconds."""
    await connection.execute(_FAIL, job.id, job.fence, delay, _storable(error))


async def wait(connection: Connection, job: Job, delay: float, error: str) -> None:
    """Lets the job be tried again after `delay` seconds, and this attempt not be one of its last."""
    await connection.execute(_WAIT, job.id, job.fence, delay, _storable(error))


async def park(connection: Connection, job: Job, error: str) -> bool:
    """Makes the job a dead letter; False when it is not ours any more."""
    return await connection.execute(_PARK, job.id, job.fence, _storable(error)) == "UPDATE 1"


async def redrive(connection: Connection, job_id: int) -> bool:
    """Gives a dead letter all its attempts again; False when there is no such dead letter."""
    done = await connection.execute(_REDRIVE, job_id) == "UPDATE 1"
    signal(SIGNAL)
    return done


async def count_dead_letters(connection: Connection) -> int:
    """How many jobs ran out of attempts and wait for an operator."""
    return int(await connection.fetchval("SELECT count(*) FROM jobs WHERE state = 'parked'"))


async def dead_letters(
    connection: Connection, before: datetime | None, limit: int, *, id_before: int = 0
) -> list["asyncpg.Record"]:
    """Jobs that ran out of attempts without what they were to do it with, `limit` at most, the last parked first.

    Many may be parked in one transaction, at the same time to the microsecond: of those parked at `before` itself
    come the ones with an id below `id_before`.
    """
    return await connection.fetch(_DEAD_LETTERS, before, id_before, limit)


async def prune(connection: Connection, *, days: int = 1, unique_days: int = 90) -> int:
    """Deletes finished jobs past retention, 10,000 at most; keyed ones stay longer to keep their key taken."""
    return int((await connection.execute(_PRUNE, days, unique_days)).split()[-1])


async def depth(connection: Connection) -> tuple[int, int, float]:
    """Jobs queued, jobs running, and the age in seconds of the oldest one that is due."""
    row = await connection.fetchrow(_DEPTH)
    assert row is not None  # an aggregate always has a row
    return row["queued"], row["running"], row["age"]
