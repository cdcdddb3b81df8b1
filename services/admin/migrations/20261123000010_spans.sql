-- migrate:up
CREATE TABLE traces (
    trace_id    text        PRIMARY KEY CHECK (trace_id ~ '^[0-9a-f]{32}$'),
    started_at  timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX traces_newest ON traces (started_at DESC, trace_id DESC);
CREATE INDEX traces_received ON traces (received_at);

-- No foreign key to traces: both are written in one statement and pruned in one, and spans are many.
CREATE TABLE spans (
    trace_id       text        NOT NULL,
    span_id        text        NOT NULL CHECK (span_id ~ '^[0-9a-f]{16}$'),
    parent_id      text        CHECK (parent_id ~ '^[0-9a-f]{16}$'),
    service        text        NOT NULL,
    name           text        NOT NULL,
    kind           text        NOT NULL CHECK (kind IN ('unspecified', 'internal', 'server', 'client', 'producer', 'consumer')),
    started_at     timestamptz NOT NULL,
    duration_ns    bigint      NOT NULL CHECK (duration_ns >= 0),
    status         text        NOT NULL CHECK (status IN ('unset', 'ok', 'error')),
    attributes     jsonb       NOT NULL,
    links          jsonb       NOT NULL,
    correlation_id text,
    PRIMARY KEY (trace_id, span_id)
);
CREATE INDEX spans_correlation ON spans (correlation_id, trace_id) WHERE correlation_id IS NOT NULL;

-- migrate:down
-- Forward only: the next change is another migration.
