"""Every statement on the schedules and their runs.

A schedule's run is a job like any other; the row of the schedule decides which worker enqueues it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from reliability.jobs.model import StoredRun
from reliability.jobs.queue import wake
from reliability.postgres import Connection

__all__ = [
    "finish_run",
    "fire",
    "lateness",
    "next_run",
    "plan",
    "prune_runs",
    "scheduled_for",
    "start_run",
    "stored_run",
    "trigger",
]

_PRUNE_RUNS = """
DELETE FROM job_runs WHERE id IN (
    SELECT id FROM job_runs WHERE scheduled_for < now() - $1::int * interval '1 day' LIMIT 10000)
"""

# By the last run that was finished; of a schedule that has none yet, by the first one that should be.
_LATE = """
SELECT s.name, extract(epoch FROM now() - coalesce(
           (SELECT r.scheduled_for + w.every * interval '1 second' FROM job_runs r
             WHERE r.job = s.name AND r.finished_at IS NOT NULL ORDER BY r.scheduled_for DESC LIMIT 1),
           (SELECT r.scheduled_for FROM job_runs r WHERE r.job = s.name ORDER BY r.scheduled_for LIMIT 1),
           s.next_run_at))::float8 AS late
  FROM job_schedules s JOIN unnest($1::text[], $2::float8[]) AS w (name, every) USING (name)
"""

# The schedules' row locks let one worker through; run row and job are born in the same statement. A next run
# two periods away was noted by a clock that has been set back since: waiting for it would skip all in between.
# All schedules at once: any of them may be due, on every worker there is.
_FIRE = """
WITH due AS (
    SELECT s.name, w.every FROM job_schedules s JOIN unnest($1::text[], $2::float8[]) AS w (name, every) USING (name)
     WHERE s.next_run_at <= now() OR s.next_run_at > now() + 2 * w.every * interval '1 second'
       FOR UPDATE OF s SKIP LOCKED),
fired AS (
    UPDATE job_schedules s SET next_run_at = now() + due.every * interval '1 second' FROM due WHERE s.name = due.name
    RETURNING s.name, now() AS scheduled_for),
run AS (
    INSERT INTO job_runs (job, scheduled_for) SELECT name, scheduled_for FROM fired RETURNING id, job, scheduled_for)
INSERT INTO jobs (kind, payload, max_attempts)
SELECT 'schedule:' || job, jsonb_build_object('run_id', id, 'scheduled_for', scheduled_for), 5 FROM run
RETURNING id
"""

# Of one that nobody has made known yet there is nothing to wait for.
_NEXT = """
SELECT extract(epoch FROM min(next_run_at) - now())::float8 FROM job_schedules WHERE name = ANY($1::text[])
"""

# Two at once get a run each; a run may overlap another, as a late one overlaps its successor.
_TRIGGER = """
WITH run AS (
    INSERT INTO job_runs (job, scheduled_for) VALUES ($1, clock_timestamp())
    RETURNING id, job, scheduled_for),
job AS (
    INSERT INTO jobs (kind, payload, max_attempts)
    SELECT 'schedule:' || job, jsonb_build_object('run_id', id, 'scheduled_for', scheduled_for), 5 FROM run)
SELECT id FROM run
"""


async def plan(connection: Connection, names: Sequence[str]) -> None:
    """Makes schedules known; existing ones keep their next run."""
    await connection.execute(
        "INSERT INTO job_schedules (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", list(names)
    )


async def lateness(connection: Connection, every: Mapping[str, float]) -> dict[str, float]:
    """How many seconds each schedule's next finished run is overdue, 0 when it is not. `every` is in seconds."""
    rows = await connection.fetch(_LATE, list(every), list(every.values()))
    return {row["name"]: max(0.0, row["late"]) for row in rows}


async def fire(connection: Connection, every: Mapping[str, float]) -> int:
    """Enqueues the jobs of the schedules that are due; how many. `every` is in seconds, by name.

    Those that another worker is firing at this moment are passed by.
    """
    return len(await connection.fetch(_FIRE, list(every), list(every.values())))


async def next_run(connection: Connection, names: Iterable[str]) -> float:
    """In how many seconds the first of the schedules is due: 0 or less when one is, infinite when there is none."""
    seconds: float | None = await connection.fetchval(_NEXT, list(names))
    return math.inf if seconds is None else seconds


async def trigger(connection: Connection, name: str) -> int:
    """Enqueues a run of a schedule now, besides the regular ones; the run's id."""
    run_id = await connection.fetchval(_TRIGGER, name)
    wake()
    return int(run_id)


async def stored_run(connection: Connection, run_id: int) -> StoredRun:
    """A run as it stands. Raises `LookupError` when it is gone."""
    row = await connection.fetchrow(
        "SELECT id, job, scheduled_for, started_at, finished_at, processed, failed FROM job_runs WHERE id = $1", run_id
    )
    if row is None:
        message = f"run {run_id} is gone"
        raise LookupError(message)
    return StoredRun(**row)


async def start_run(connection: Connection, run_id: int) -> None:
    """Notes that a scheduled run has begun."""
    await connection.execute("UPDATE job_runs SET started_at = coalesce(started_at, now()) WHERE id = $1", run_id)


async def finish_run(connection: Connection, run_id: int, processed: int, failed: int) -> None:
    """Notes what a scheduled run did."""
    await connection.execute(
        "UPDATE job_runs SET finished_at = now(), processed = $2, failed = $3 WHERE id = $1", run_id, processed, failed
    )


def scheduled_for(payload: Mapping[str, Any]) -> datetime:
    """The instant a schedule's job stands for."""
    return datetime.fromisoformat(payload["scheduled_for"])


async def prune_runs(connection: Connection, *, days: int = 90) -> int:
    """Deletes records of scheduled runs past retention, 10,000 at most."""
    return int((await connection.execute(_PRUNE_RUNS, days)).split()[-1])
