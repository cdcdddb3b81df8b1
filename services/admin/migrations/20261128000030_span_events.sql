-- migrate:up
-- What happened during a span has the tenth place in it; spans that are stored have nine.
CREATE OR REPLACE VIEW spans AS
SELECT DISTINCT ON (trace_id, span_id)
       trace_id, span_id, parent_id, service, name, kind,
       timestamptz 'epoch' + (started_ns / 1000) * interval '1 microsecond' AS started_at,
       duration_ns, status, attributes, links, correlation_id, events
  FROM span_batches AS batch
 CROSS JOIN LATERAL (
       SELECT span ->> 0 AS span_id, span ->> 1 AS parent_id, span ->> 2 AS name, span ->> 3 AS kind,
              (span -> 4)::bigint AS started_ns, (span -> 5)::bigint AS duration_ns, span ->> 6 AS status,
              span -> 7 AS attributes, span -> 8 AS links, coalesce(span -> 9, '[]') AS events, place
         FROM jsonb_array_elements(batch.spans::jsonb) WITH ORDINALITY AS each (span, place)) AS told
 ORDER BY trace_id, span_id, batch.id, place;

-- migrate:down
-- Forward only: the next change is another migration.
