-- migrate:up
CREATE TABLE idempotency_keys (
    scope          text        NOT NULL,
    key            text        NOT NULL,
    fingerprint    text        NOT NULL,
    recovery_point text        NOT NULL DEFAULT 'started',
    data           jsonb       NOT NULL DEFAULT '{}',
    lease          uuid,
    lease_until    timestamptz,
    status         smallint,
    headers        jsonb,
    body           bytea,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    PRIMARY KEY (scope, key),
    CHECK ((status IS NULL) = (body IS NULL)),
    CHECK ((lease IS NULL) = (lease_until IS NULL)),
    CHECK (status IS NULL OR lease IS NULL)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- migrate:down
-- Forward only: the next change is another migration.
