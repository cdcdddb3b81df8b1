-- migrate:up
CREATE TABLE email_changes (
    id               uuid        PRIMARY KEY,
    account_id       uuid        NOT NULL REFERENCES accounts (id),
    old_email        text        NOT NULL,
    new_email        text        NOT NULL CHECK (new_email ~ '^[^@\s]+@[^@\s]+$' AND length(new_email) <= 254),
    old_confirmed_at timestamptz,
    new_confirmed_at timestamptz,
    state            text        NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'applied', 'superseded')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (state <> 'applied' OR (old_confirmed_at IS NOT NULL AND new_confirmed_at IS NOT NULL))
);
CREATE UNIQUE INDEX email_changes_asked ON email_changes (account_id) WHERE state = 'asked';

-- What a link in a mail stands for. The link's own words are made from the id and the service's secret.
CREATE TABLE mail_tokens (
    id            uuid        PRIMARY KEY,
    account_id    uuid        NOT NULL REFERENCES accounts (id),
    purpose       text        NOT NULL
                  CHECK (purpose IN ('verify_email', 'reset_password', 'invitation', 'old_email', 'new_email')),
    email         text        NOT NULL,
    -- Of a sign-up: the password that holds once the address is proven to be theirs.
    password_hash text,
    change_id     uuid        REFERENCES email_changes (id),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    used_at       timestamptz,
    CHECK ((change_id IS NOT NULL) = (purpose IN ('old_email', 'new_email')))
);
CREATE INDEX mail_tokens_expires_at ON mail_tokens (expires_at);
CREATE INDEX mail_tokens_account ON mail_tokens (account_id);

-- migrate:down
-- Forward only: the next change is another migration.
