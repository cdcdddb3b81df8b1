-- migrate:up
CREATE TABLE accounts (
    id                uuid        PRIMARY KEY DEFAULT uuidv7(),
    kind              text        NOT NULL CHECK (kind IN ('customer', 'staff')),
    role              text        NOT NULL CHECK (role IN ('customer', 'owner')),
    email             text        NOT NULL CHECK (email ~ '^[^@\s]+@[^@\s]+$' AND length(email) <= 254),
    name              text        NOT NULL CHECK (name <> ''),
    password_hash     text,
    marketing_consent boolean     NOT NULL DEFAULT false,
    status            text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    changed_at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'customer') = (role = 'customer'))
);
CREATE UNIQUE INDEX accounts_email ON accounts (lower(email));

-- migrate:down
-- Forward only: the next change is another migration.
