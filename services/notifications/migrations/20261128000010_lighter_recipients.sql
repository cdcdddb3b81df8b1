-- migrate:up
-- A million recipients are written at once, and each index is a large part of what that costs. Turned round, the
-- primary key also finds somebody who is to be erased, and an index of its own for that is not needed.
CREATE UNIQUE INDEX campaign_recipients_contact_campaign ON campaign_recipients (contact_id, campaign_id);
ALTER TABLE campaign_recipients
    DROP CONSTRAINT campaign_recipients_pkey,
    ADD CONSTRAINT campaign_recipients_pkey PRIMARY KEY USING INDEX campaign_recipients_contact_campaign;
DROP INDEX campaign_recipients_contact;

-- migrate:down
-- Forward only: the next change is another migration.
