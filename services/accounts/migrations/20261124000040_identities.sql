-- migrate:up
-- Who an account is at a provider of OpenID Connect.
CREATE TABLE identities (
    provider   text        NOT NULL,
    subject    text        NOT NULL,
    account_id uuid        NOT NULL REFERENCES accounts (id),
    email      text        NOT NULL,
    linked_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject)
);
CREATE INDEX identities_account ON identities (account_id);

-- migrate:down
-- Forward only: the next change is another migration.
