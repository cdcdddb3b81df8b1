-- migrate:up
CREATE TABLE audit_log (
    sequence       bigint      PRIMARY KEY CHECK (sequence > 0),
    id             uuid        NOT NULL UNIQUE,
    service        text        NOT NULL,
    happened_at    timestamptz NOT NULL,
    actor          text        NOT NULL CHECK (actor <> ''),
    action         text        NOT NULL CHECK (action <> ''),
    subject        text        NOT NULL,
    -- As it was sent: the hash is over these very bytes.
    detail_json    text        NOT NULL,
    correlation_id text        NOT NULL,
    appended_at    timestamptz NOT NULL DEFAULT now(),
    previous       bytea       NOT NULL CHECK (length(previous) = 32),
    hash           bytea       NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX audit_log_actor ON audit_log (actor, sequence);
CREATE INDEX audit_log_subject ON audit_log (subject, sequence);

-- The end of the chain, so that entries cut off at the end are missed. Its row lock makes writers wait in line.
CREATE TABLE audit_head (
    single   boolean PRIMARY KEY DEFAULT true CHECK (single),
    sequence bigint  NOT NULL,
    hash     bytea   NOT NULL CHECK (length(hash) = 32)
);
INSERT INTO audit_head (sequence, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only added to';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate:down
-- Forward only: the next change is another migration.
