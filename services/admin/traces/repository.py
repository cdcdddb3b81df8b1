"""Every statement on spans and traces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import orjson

from reliability.postgres import Connection
from services.admin.traces.domain import Batch, Cursor, StoredSpan, TraceSummary

if TYPE_CHECKING:
    import asyncpg

__all__ = ["MAX_SPANS", "add", "newest", "of_flows", "prune", "spans_of"]

MAX_SPANS: Final = 5000
_BATCH: Final = 5000

# Spans are no promise: nobody waits for the disk, and a server that crashes may forget the last half second of them.
_ADD = """
WITH hurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO span_batches (trace_id, service, correlation_id, started_at, spans)
SELECT trace_id, service, correlation_id,
       timestamptz 'epoch' + (started_ns / 1000) * interval '1 microsecond', spans
  FROM hurried, unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[])
       AS new (trace_id, service, correlation_id, started_ns, spans)
"""

# Without a cursor a page begins after everything: one form that the index can always serve.
_PAGE = """
(started_at, trace_id) < (coalesce($1::timestamptz, 'infinity'), coalesce($2::uuid, repeat('0', 32)::uuid))
 ORDER BY started_at DESC, trace_id DESC LIMIT $3"""
# A trace begins with the earliest of its batches, which stands for it here. Of the newest few it is asked one by one.
_LISTED = f"""
WITH listed AS (
    SELECT trace_id, started_at FROM span_batches AS batch
     WHERE id = (SELECT id FROM span_batches WHERE trace_id = batch.trace_id ORDER BY started_at, id LIMIT 1)
       AND {_PAGE}),
"""
_LISTED_OF_FLOWS = f"""
WITH flow AS MATERIALIZED (SELECT DISTINCT trace_id FROM span_batches WHERE correlation_id = ANY($4::text[])),
listed AS (
    SELECT trace_id, started_at
      FROM flow CROSS JOIN LATERAL (
           SELECT started_at FROM span_batches WHERE trace_id = flow.trace_id ORDER BY started_at LIMIT 1) AS first
     WHERE {_PAGE}),
"""
# OFFSET 0 has the spans of each listed trace looked up by its id, not those of all joined with the list.
# The root is the first span whose parent is not in the trace: its parent may be a client's own span.
_SUMMARY = """
seen AS MATERIALIZED (
    SELECT span.* FROM listed CROSS JOIN LATERAL (
           SELECT trace_id, span_id, parent_id, service, name, status, started_at, duration_ns
             FROM spans WHERE spans.trace_id = listed.trace_id OFFSET 0) AS span),
whole AS (
    SELECT trace_id, count(*) AS span_count,
           CASE WHEN bool_or(status = 'error') THEN 'error' ELSE 'ok' END AS status,
           (extract(epoch FROM max(started_at + duration_ns / 1000 * interval '1 microsecond') - min(started_at))
            * 1000)::float8 AS duration_ms
      FROM seen GROUP BY trace_id),
root AS (
    SELECT DISTINCT ON (trace_id) trace_id, name, service FROM seen
     ORDER BY trace_id, coalesce((trace_id, parent_id) IN (SELECT trace_id, span_id FROM seen), false),
              started_at, span_id)
SELECT replace(listed.trace_id::text, '-', '') AS trace_id, listed.started_at, root.name AS root, root.service,
       whole.span_count, whole.status, whole.duration_ms
  FROM listed JOIN whole USING (trace_id) JOIN root USING (trace_id)
 ORDER BY listed.started_at DESC, listed.trace_id DESC
"""
_NEWEST = _LISTED + _SUMMARY
_OF_FLOWS = _LISTED_OF_FLOWS + _SUMMARY
_SPANS = """
SELECT span_id, parent_id, service, name, kind, started_at, duration_ns, status, attributes, links, events
  FROM spans WHERE trace_id = $1 ORDER BY started_at, span_id LIMIT $2
"""
# Batches are numbered as they come, so the oldest are found without an index of their times.
_PRUNE = """
WITH oldest AS (SELECT trace_id, received_at FROM span_batches ORDER BY id LIMIT $2),
gone AS (
    DELETE FROM span_batches
     WHERE trace_id IN (SELECT trace_id FROM oldest WHERE received_at < now() - $1 * interval '1 day')
    RETURNING trace_id)
SELECT count(DISTINCT trace_id) FROM gone
"""


async def add(connection: Connection, batches: Sequence[Batch]) -> None:
    """Stores batches as they are: a span that is there already is left out when it is read."""
    await connection.execute(
        _ADD,
        [batch.trace_id for batch in batches],
        [batch.service for batch in batches],
        [batch.correlation_id for batch in batches],
        [min(span.started_ns for span in batch.spans) for batch in batches],
        [orjson.dumps(batch.spans, default=tuple).decode() for batch in batches],
    )


async def newest(connection: Connection, after: Cursor | None, limit: int) -> list[TraceSummary]:
    """Traces, the newest first."""
    return _summaries(await connection.fetch(_NEWEST, *_position(after), limit))


async def of_flows(
    connection: Connection, flows: Sequence[str], after: Cursor | None, limit: int
) -> list[TraceSummary]:
    """Traces with a span of one of these flows, the newest first."""
    return _summaries(await connection.fetch(_OF_FLOWS, *_position(after), limit, flows))


async def spans_of(connection: Connection, trace_id: str) -> list[StoredSpan]:
    """The spans of a trace in the order they started, 5,000 at most."""
    return [StoredSpan(**dict(row)) for row in await connection.fetch(_SPANS, trace_id, MAX_SPANS)]


async def prune(connection: Connection, days: int) -> int:
    """Deletes the oldest traces, as long as they were first heard of longer ago; how many. 0 when none is left."""
    return int(await connection.fetchval(_PRUNE, days, _BATCH))


def _position(after: Cursor | None) -> tuple[object, object]:
    return (after.started_at, after.trace_id) if after else (None, None)


def _summaries(rows: "list[asyncpg.Record]") -> list[TraceSummary]:
    return [TraceSummary(**dict(row)) for row in rows]
