-- migrate:up
ALTER TABLE emails
    -- When the next attempt is due: one that is long overdue has lost its job, and the sweep gives it another.
    ADD COLUMN due_at       timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN settled_at   timestamptz,
    ADD COLUMN discarded_at timestamptz,
    ADD COLUMN provider_id  text;
UPDATE emails SET settled_at = coalesce(sent_at, created_at) WHERE state IN ('sent', 'failed', 'unknown', 'suppressed');
-- No CHECK that a settled mail has its time: the version before this one still writes while it is replaced.
CREATE INDEX emails_due ON emails (due_at) WHERE state IN ('queued', 'sending', 'retrying');
CREATE INDEX emails_provider ON emails (provider_id) WHERE provider_id IS NOT NULL;
DROP INDEX emails_failed;
CREATE INDEX emails_to_look_at ON emails (id) WHERE state IN ('failed', 'unknown') AND discarded_at IS NULL;

-- migrate:down
-- Forward only: the next change is another migration.
