-- migrate:up
CREATE TABLE machine_tokens (
    issuer     text        NOT NULL,
    token_id   text        NOT NULL,
    scope      text        NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, token_id, scope)
);
CREATE INDEX machine_tokens_expiry ON machine_tokens (expires_at);

-- migrate:down
-- Forward only: the next change is another migration.
