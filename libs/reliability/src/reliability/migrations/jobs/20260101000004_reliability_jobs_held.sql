-- migrate:up
-- One running job per order key, whatever two claims at the same instant saw.
CREATE UNIQUE INDEX jobs_order_running ON jobs (order_key) WHERE state = 'running' AND order_key IS NOT NULL;
-- A payload that is no object could not be claimed, and would take the rest of its batch along.
ALTER TABLE jobs ADD CONSTRAINT jobs_payload_is_object CHECK (jsonb_typeof(payload) = 'object');

-- migrate:down
-- Forward only: the next change is another migration.
