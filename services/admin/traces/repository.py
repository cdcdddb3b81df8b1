"""Every statement on spans and traces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import orjson

from reliability.postgres import Connection
from services.admin.traces.domain import Cursor, Span, StoredSpan, TraceSummary

if TYPE_CHECKING:
    import asyncpg

__all__ = ["MAX_SPANS", "add", "newest", "of_correlation", "prune", "spans_of"]

MAX_SPANS: Final = 5000
_BATCH: Final = 1000

# Rows go in sorted by key, so that two senders of one trace never wait for each other in a circle.
_ADD = """
WITH batch AS MATERIALIZED (
    SELECT trace_id, span_id, parent_id, service, name, kind,
           timestamptz 'epoch' + (started_ns / 1000) * interval '1 microsecond' AS started_at,
           duration_ns, status, attributes::jsonb, links::jsonb, correlation_id
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                  $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[])
           AS new (trace_id, span_id, parent_id, service, name, kind, started_ns,
                   duration_ns, status, attributes, links, correlation_id)),
seen AS (
    INSERT INTO traces (trace_id, started_at)
    SELECT trace_id, min(started_at) FROM batch GROUP BY trace_id ORDER BY trace_id
        ON CONFLICT (trace_id) DO UPDATE SET started_at = excluded.started_at
     WHERE excluded.started_at < traces.started_at)
INSERT INTO spans (trace_id, span_id, parent_id, service, name, kind, started_at,
                   duration_ns, status, attributes, links, correlation_id)
SELECT * FROM batch ORDER BY trace_id, span_id
    ON CONFLICT (trace_id, span_id) DO NOTHING
"""

# The root is the first span whose parent is not in the trace: its parent may be a client's own span.
_SUMMARY = """
SELECT listed.trace_id, listed.started_at, root.name AS root, root.service, whole.span_count, whole.status,
       whole.duration_ms
  FROM listed
 CROSS JOIN LATERAL (
       SELECT count(*) AS span_count,
              CASE WHEN bool_or(status = 'error') THEN 'error' ELSE 'ok' END AS status,
              (extract(epoch FROM max(started_at + duration_ns / 1000 * interval '1 microsecond') - min(started_at))
               * 1000)::float8 AS duration_ms
         FROM spans WHERE spans.trace_id = listed.trace_id) AS whole
 CROSS JOIN LATERAL (
       SELECT name, service FROM spans AS child
        WHERE child.trace_id = listed.trace_id
        ORDER BY EXISTS (SELECT FROM spans AS parent
                          WHERE parent.trace_id = child.trace_id AND parent.span_id = child.parent_id),
                 started_at, span_id
        LIMIT 1) AS root
 ORDER BY listed.started_at DESC, listed.trace_id DESC
"""
# Without a cursor the page begins after everything: one form that the index can always serve.
_PAGE = """
(started_at, trace_id) < (coalesce($1::timestamptz, 'infinity'), coalesce($2::text, ''))
 ORDER BY started_at DESC, trace_id DESC LIMIT $3"""
_NEWEST = f"WITH listed AS (SELECT trace_id, started_at FROM traces WHERE {_PAGE}) {_SUMMARY}"
_OF_CORRELATION = f"""
WITH listed AS (
    SELECT trace_id, started_at FROM traces
     WHERE trace_id IN (SELECT trace_id FROM spans WHERE correlation_id = $4) AND {_PAGE})
{_SUMMARY}
"""
_SPANS = """
SELECT span_id, parent_id, service, name, kind, started_at, duration_ns, status, attributes, links
  FROM spans WHERE trace_id = $1 ORDER BY started_at, span_id LIMIT $2
"""
_PRUNE = """
WITH old AS (
    DELETE FROM traces WHERE trace_id IN (
        SELECT trace_id FROM traces WHERE received_at < now() - $1 * interval '1 day' LIMIT $2)
    RETURNING trace_id),
gone AS (DELETE FROM spans USING old WHERE spans.trace_id = old.trace_id)
SELECT count(*) FROM old
"""


async def add(connection: Connection, spans: Sequence[Span]) -> None:
    """Stores spans; one that is there already stays as it is."""
    await connection.execute(
        _ADD,
        [span.trace_id for span in spans],
        [span.span_id for span in spans],
        [span.parent_id for span in spans],
        [span.service for span in spans],
        [span.name for span in spans],
        [span.kind for span in spans],
        [span.started_ns for span in spans],
        [span.duration_ns for span in spans],
        [span.status for span in spans],
        [orjson.dumps(span.attributes).decode() for span in spans],
        [orjson.dumps(span.links).decode() for span in spans],
        [span.correlation_id for span in spans],
    )


async def newest(connection: Connection, after: Cursor | None, limit: int) -> list[TraceSummary]:
    """Traces, the newest first."""
    return _summaries(await connection.fetch(_NEWEST, *_position(after), limit))


async def of_correlation(
    connection: Connection, correlation_id: str, after: Cursor | None, limit: int
) -> list[TraceSummary]:
    """Traces with a span of this flow, the newest first."""
    return _summaries(await connection.fetch(_OF_CORRELATION, *_position(after), limit, correlation_id))


async def spans_of(connection: Connection, trace_id: str) -> list[StoredSpan]:
    """The spans of a trace in the order they started, 5,000 at most."""
    return [StoredSpan(**dict(row)) for row in await connection.fetch(_SPANS, trace_id, MAX_SPANS)]


async def prune(connection: Connection, days: int) -> int:
    """Deletes traces that were first heard of longer ago, 1,000 at most; how many."""
    return int(await connection.fetchval(_PRUNE, days, _BATCH))


def _position(after: Cursor | None) -> tuple[object, object]:
    return (after.started_at, after.trace_id) if after else (None, None)


def _summaries(rows: "list[asyncpg.Record]") -> list[TraceSummary]:
    return [TraceSummary(**dict(row)) for row in rows]
