-- migrate:up
CREATE TABLE contacts (
    id                uuid        PRIMARY KEY,                -- the customer's id
    email             text        NOT NULL,
    name              text        NOT NULL,
    marketing_consent boolean     NOT NULL,
    suppressed        boolean     NOT NULL DEFAULT false,
    changed_at        timestamptz NOT NULL
);
CREATE INDEX contacts_address ON contacts (lower(email));

CREATE TABLE emails (
    id              uuid        PRIMARY KEY DEFAULT uuidv7(),
    idempotency_key text        NOT NULL UNIQUE,
    fingerprint     text        NOT NULL,
    category        text        NOT NULL CHECK (category IN ('transactional', 'marketing')),
    "to"            text        NOT NULL,
    template        text        NOT NULL,
    data            jsonb       NOT NULL,
    subject         text        NOT NULL,
    html            text        NOT NULL,
    text            text        NOT NULL,
    message_id      text        NOT NULL UNIQUE,
    state           text        NOT NULL DEFAULT 'queued'
                    CHECK (state IN ('queued', 'sending', 'sent', 'retrying', 'failed', 'unknown', 'suppressed')),
    attempts        integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Of these attempts: those that met no server and do not count, and those it may have accepted unseen.
    unreached       integer     NOT NULL DEFAULT 0 CHECK (unreached BETWEEN 0 AND attempts),
    ambiguous       integer     NOT NULL DEFAULT 0 CHECK (ambiguous >= 0),
    correlation_id  text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    sent_at         timestamptz,
    last_error      text,
    CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
    CHECK (state <> 'sending' OR attempts > 0)
);
CREATE INDEX emails_failed ON emails (created_at) WHERE state = 'failed';
CREATE INDEX emails_correlation ON emails (correlation_id);

CREATE TABLE campaigns (
    id             uuid        PRIMARY KEY DEFAULT uuidv7(),
    name           text        NOT NULL,
    subject        text        NOT NULL,
    template       text,
    html           text,
    -- The rendered mail, cut where each recipient's own words go: text, slot, text, slot, ..., text.
    html_pieces    text[]      NOT NULL CHECK (cardinality(html_pieces) % 2 = 1),
    text_pieces    text[]      NOT NULL CHECK (cardinality(text_pieces) % 2 = 1),
    audience       jsonb       NOT NULL,
    status         text        NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'sending', 'finished')),
    recipients     bigint      NOT NULL DEFAULT 0 CHECK (recipients >= 0),
    batches        integer     NOT NULL DEFAULT 0 CHECK (batches >= 0),
    created_by     text        NOT NULL,
    started_by     text,
    correlation_id text        NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    finished_at    timestamptz,
    CHECK ((template IS NULL) <> (html IS NULL)),
    CHECK ((status = 'draft') = (started_at IS NULL)),
    CHECK ((status = 'finished') = (finished_at IS NOT NULL))
);

CREATE TABLE campaign_recipients (
    campaign_id uuid        NOT NULL REFERENCES campaigns (id),
    contact_id  uuid        NOT NULL,
    batch_no    integer     NOT NULL CHECK (batch_no >= 0),
    email       text        NOT NULL,
    name        text        NOT NULL,
    message_id  text        NOT NULL,
    state       text        NOT NULL DEFAULT 'queued'
                CHECK (state IN ('queued', 'sending', 'sent', 'failed', 'unknown', 'suppressed')),
    attempts    integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    unreached   integer     NOT NULL DEFAULT 0 CHECK (unreached BETWEEN 0 AND attempts),
    retry_at    timestamptz,
    settled_at  timestamptz,
    last_error  text,
    PRIMARY KEY (campaign_id, contact_id),
    CHECK (state <> 'sending' OR attempts > 0),
    CHECK ((state IN ('queued', 'sending')) = (settled_at IS NULL))
);
-- Two contacts may share an address; one mail goes to it.
CREATE UNIQUE INDEX campaign_recipients_address ON campaign_recipients (campaign_id, lower(email));
CREATE INDEX campaign_recipients_open ON campaign_recipients (campaign_id, batch_no) WHERE state IN ('queued', 'sending');

-- migrate:down
-- Forward only: the next change is another migration.
