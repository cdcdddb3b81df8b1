-- migrate:up
-- A hold that catalog ended for its age may be held anew for a payment that comes late; one in state released never is.
ALTER TABLE holds
    DROP CONSTRAINT holds_state_check,
    ADD CONSTRAINT holds_state_check CHECK (state IN ('held', 'expired', 'committed', 'released'));
UPDATE holds SET state = 'expired' WHERE state = 'released' AND changed_at >= expires_at + interval '10 minutes';

-- migrate:down
-- Forward only: the next change is another migration.
