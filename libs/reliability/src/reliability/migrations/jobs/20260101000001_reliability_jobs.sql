-- migrate:up
CREATE TABLE jobs (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           text        NOT NULL,
    payload        jsonb       NOT NULL,
    unique_key     text,
    order_key      text,
    state          text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'parked')),
    attempt        integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_attempts   integer     NOT NULL CHECK (max_attempts > 0),
    run_at         timestamptz NOT NULL DEFAULT now(),
    lease_until    timestamptz,
    fence          bigint      NOT NULL DEFAULT 0,
    correlation_id text        NOT NULL DEFAULT '',
    trace          jsonb       NOT NULL DEFAULT '{}',
    last_error     text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'parked')) = (finished_at IS NOT NULL))
);
-- Kept after completion, so that the same key is not accepted again until the row is pruned.
CREATE UNIQUE INDEX jobs_unique_key ON jobs (kind, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_due ON jobs (run_at, id) WHERE state = 'queued';
CREATE INDEX jobs_leases ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX jobs_order ON jobs (order_key, id) WHERE state IN ('queued', 'running') AND order_key IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE job_schedules (
    name        text        PRIMARY KEY,
    next_run_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE job_runs (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job           text        NOT NULL,
    scheduled_for timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    processed     bigint      NOT NULL DEFAULT 0,
    failed        bigint      NOT NULL DEFAULT 0,
    UNIQUE (job, scheduled_for)
);

-- migrate:down
-- Forward only: the next change is another migration.
