-- migrate:up
CREATE TABLE inbox (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source         text        NOT NULL,
    event_id       text        NOT NULL,
    event_type     text        NOT NULL,
    object_key     text        NOT NULL,
    body           bytea       NOT NULL,
    state          text        NOT NULL DEFAULT 'received' CHECK (state IN ('received', 'processed', 'ignored', 'parked')),
    correlation_id text        NOT NULL DEFAULT '',
    received_at    timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    UNIQUE (source, event_id),
    CHECK ((state = 'received') = (finished_at IS NULL))
);
CREATE INDEX inbox_parked ON inbox (finished_at) WHERE state = 'parked';
CREATE INDEX inbox_object ON inbox (object_key, id);

-- migrate:down
-- Forward only: the next change is another migration.
