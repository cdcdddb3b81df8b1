-- migrate:up
CREATE TABLE incidents (
    id              uuid        PRIMARY KEY DEFAULT uuidv7(),
    service         text        NOT NULL,                     -- the name on the certificate of who raised it
    key             text        NOT NULL,                     -- the service's own name for it
    kind            text        NOT NULL CHECK (kind <> ''),
    summary         text        NOT NULL CHECK (summary <> ''),
    detail          jsonb       NOT NULL DEFAULT '{}',
    correlation_id  text        NOT NULL,
    state           text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'resolved')),
    raised_at       timestamptz NOT NULL DEFAULT now(),
    acknowledged_by text,
    acknowledged_at timestamptz,
    resolved_by     text,
    resolved_at     timestamptz,
    UNIQUE (service, key),
    CHECK (state <> 'acknowledged' OR acknowledged_at IS NOT NULL),
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL) AND (resolved_at IS NULL) = (resolved_by IS NULL))
);
CREATE INDEX incidents_unresolved ON incidents (id) WHERE state <> 'resolved';

-- migrate:down
-- Forward only: the next change is another migration.
