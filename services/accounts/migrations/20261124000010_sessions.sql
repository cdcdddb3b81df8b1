-- migrate:up
ALTER TABLE accounts
    DROP CONSTRAINT accounts_role_check,
    ADD CONSTRAINT accounts_role_check CHECK (role IN ('customer', 'owner', 'member')),
    DROP CONSTRAINT accounts_status_check,
    ADD CONSTRAINT accounts_status_check CHECK (status IN ('active', 'suspended', 'erased')),
    ADD COLUMN email_verified_at timestamptz,
    ADD COLUMN permissions text[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT accounts_permissions_check CHECK (
        permissions <@ ARRAY['catalog', 'orders', 'refunds', 'campaigns', 'customers', 'operations', 'staff']
        AND (role = 'member') = (permissions <> '{}')),
    -- Both sealed with the service's secret.
    ADD COLUMN totp_secret bytea,
    ADD COLUMN totp_proposed bytea,
    -- The last time step whose code was used: a code opens once.
    ADD COLUMN totp_step bigint NOT NULL DEFAULT 0,
    -- What is left of somebody who was erased is a tombstone.
    ADD CONSTRAINT accounts_erased_check CHECK (
        status <> 'erased' OR (password_hash IS NULL AND email = 'erased-' || id || '@erased.invalid'));
UPDATE accounts SET email_verified_at = created_at;

-- A session is a family of refresh tokens, of which one is current.
CREATE TABLE sessions (
    id          uuid        PRIMARY KEY DEFAULT uuidv7(),
    account_id  uuid        NOT NULL REFERENCES accounts (id),
    device      text        NOT NULL CHECK (length(device) <= 200),
    client      text        NOT NULL,
    -- A token's successor is its HMAC under this.
    secret      bytea       NOT NULL CHECK (length(secret) = 32),
    generation  integer     NOT NULL DEFAULT 1 CHECK (generation > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    rotated_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    ended_at    timestamptz,
    end_reason  text CHECK (end_reason IN ('logout', 'revoked', 'password', 'reuse', 'suspended', 'erased')),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_live ON sessions (account_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expired ON sessions (expires_at);

-- Hashes only. Old ones are kept with their session, so that their second use is seen.
CREATE TABLE refresh_tokens (
    hash       bytea   PRIMARY KEY CHECK (length(hash) = 32),
    session_id uuid    NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    generation integer NOT NULL CHECK (generation > 0),
    UNIQUE (session_id, generation)
);

CREATE TABLE revocations (
    name       text        PRIMARY KEY CHECK (name ~ '^(session|account):'),
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX revocations_revoked_at ON revocations (revoked_at);

-- migrate:down
-- Forward only: the next change is another migration.
