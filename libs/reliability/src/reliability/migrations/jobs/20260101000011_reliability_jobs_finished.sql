-- migrate:up
-- Millions of finished jobs whose key stays taken are between an operator's few dead letters and between what may be
-- pruned: each kind of end has an index of its own, and a job is in one of them.
CREATE INDEX jobs_parked ON jobs (finished_at) WHERE state = 'parked';
CREATE INDEX jobs_done ON jobs (finished_at) WHERE state = 'done' AND unique_key IS NULL;
CREATE INDEX jobs_done_keyed ON jobs (finished_at) WHERE state = 'done' AND unique_key IS NOT NULL;
DROP INDEX jobs_finished;

-- migrate:down
-- Forward only: the next change is another migration.
