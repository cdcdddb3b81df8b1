-- migrate:up
-- What opens instead of a one-time code, each once. MACs under the service's secret.
CREATE TABLE recovery_codes (
    account_id uuid        NOT NULL REFERENCES accounts (id),
    mac        bytea       NOT NULL CHECK (length(mac) = 32),
    used_at    timestamptz,
    PRIMARY KEY (account_id, mac)
);

-- migrate:down
-- Forward only: the next change is another migration.
