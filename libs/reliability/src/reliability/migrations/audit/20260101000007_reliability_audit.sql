-- migrate:up
CREATE TABLE audit_entries (
    id             uuid        PRIMARY KEY,
    happened_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor          text        NOT NULL CHECK (actor <> ''),
    action         text        NOT NULL CHECK (action <> ''),
    subject        text        NOT NULL,
    detail         jsonb       NOT NULL,
    correlation_id text        NOT NULL DEFAULT '',
    -- When the log had it.
    appended_at    timestamptz
);
CREATE INDEX audit_entries_waiting ON audit_entries (id) WHERE appended_at IS NULL;

-- migrate:down
-- Forward only: the next change is another migration.
