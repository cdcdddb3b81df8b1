-- migrate:up
CREATE TABLE addresses (
    id          uuid        PRIMARY KEY DEFAULT uuidv7(),
    account_id  uuid        NOT NULL REFERENCES accounts (id),
    name        text        NOT NULL,
    line1       text        NOT NULL,
    line2       text,
    city        text        NOT NULL,
    postal_code text        NOT NULL,
    region      text,
    country     text        NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    phone       text,
    is_default  boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX addresses_account ON addresses (account_id, id);
CREATE UNIQUE INDEX addresses_default ON addresses (account_id) WHERE is_default;

-- migrate:down
-- Forward only: the next change is another migration.
