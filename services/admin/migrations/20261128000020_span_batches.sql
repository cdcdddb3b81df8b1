-- migrate:up
-- What one export says of one trace, by one service, under one correlation id: many spans, one row. `spans` is a JSON
-- array of them, each an array whose places the view below names. Text, for nothing looks into it but that view, and
-- nobody waits for its syntax to be proven on every write; not packed either, which costs more than it saves.
CREATE TABLE span_batches (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trace_id       uuid        NOT NULL,
    service        text        NOT NULL,
    correlation_id text        COLLATE "C",
    started_at     timestamptz NOT NULL,                     -- of the first of its spans
    received_at    timestamptz NOT NULL DEFAULT now(),
    spans          text        NOT NULL
) WITH (toast_tuple_target = 8160);
ALTER TABLE span_batches ALTER spans SET STORAGE EXTERNAL;

INSERT INTO span_batches (trace_id, service, correlation_id, started_at, received_at, spans)
SELECT trace_id::uuid, service, correlation_id, min(spans.started_at), min(received_at),
       jsonb_agg(jsonb_build_array(span_id, parent_id, name, kind, (extract(epoch FROM spans.started_at) * 1e9)::bigint,
                                   duration_ns, status, attributes, links))
  FROM spans JOIN traces USING (trace_id)
 GROUP BY trace_id, service, correlation_id;
DROP TABLE spans, traces;

CREATE INDEX span_batches_trace ON span_batches (trace_id, started_at);
CREATE INDEX span_batches_newest ON span_batches (started_at, trace_id);
CREATE INDEX span_batches_correlation ON span_batches (correlation_id) WHERE correlation_id IS NOT NULL;

-- Each span once: of those that were sent twice, the one that came first.
CREATE VIEW spans AS
SELECT DISTINCT ON (trace_id, span_id)
       trace_id, span_id, parent_id, service, name, kind,
       timestamptz 'epoch' + (started_ns / 1000) * interval '1 microsecond' AS started_at,
       duration_ns, status, attributes, links, correlation_id
  FROM span_batches AS batch
 CROSS JOIN LATERAL (
       SELECT span ->> 0 AS span_id, span ->> 1 AS parent_id, span ->> 2 AS name, span ->> 3 AS kind,
              (span -> 4)::bigint AS started_ns, (span -> 5)::bigint AS duration_ns, span ->> 6 AS status,
              span -> 7 AS attributes, span -> 8 AS links, place
         FROM jsonb_array_elements(batch.spans::jsonb) WITH ORDINALITY AS each (span, place)) AS told
 ORDER BY trace_id, span_id, batch.id, place;

-- migrate:down
-- Forward only: the next change is another migration.
