-- migrate:up
-- Whom staff have to look at, few among many.
CREATE INDEX campaign_recipients_undelivered ON campaign_recipients (campaign_id, contact_id)
    WHERE state IN ('failed', 'unknown');

-- migrate:down
-- Forward only: the next change is another migration.
