-- migrate:up
ALTER TABLE campaigns
    DROP CONSTRAINT campaigns_status_check,
    DROP CONSTRAINT campaigns_check1,
    DROP CONSTRAINT campaigns_check2,
    ADD COLUMN scheduled_at timestamptz,
    -- How far the freezing has come; a large audience takes several transactions.
    ADD COLUMN frozen       boolean NOT NULL DEFAULT false,
    ADD COLUMN frozen_up_to uuid,
    ADD COLUMN numbered     bigint  NOT NULL DEFAULT 0 CHECK (numbered >= 0);
UPDATE campaigns SET frozen = true, numbered = recipients WHERE status <> 'draft';
ALTER TABLE campaigns
    ADD CONSTRAINT campaigns_status_check
        CHECK (status IN ('draft', 'scheduled', 'sending', 'paused', 'finished', 'cancelled')),
    ADD CONSTRAINT campaigns_started
        CHECK (status = 'cancelled' OR (status IN ('draft', 'scheduled')) = (started_at IS NULL)),
    ADD CONSTRAINT campaigns_ended CHECK ((status IN ('finished', 'cancelled')) = (finished_at IS NOT NULL)),
    ADD CONSTRAINT campaigns_scheduled CHECK (status <> 'scheduled' OR scheduled_at IS NOT NULL);
CREATE INDEX campaigns_newest ON campaigns (id DESC);

ALTER TABLE campaign_recipients ADD COLUMN provider_id text;
CREATE INDEX campaign_recipients_provider ON campaign_recipients (provider_id) WHERE provider_id IS NOT NULL;

-- A batch as it goes to a provider that recognises it: who is in it, and its very bytes, before it leaves.
CREATE TABLE campaign_shipments (
    id          uuid        PRIMARY KEY DEFAULT uuidv7(),     -- the provider's idempotency key
    campaign_id uuid        NOT NULL REFERENCES campaigns (id),
    batch_no    integer     NOT NULL,
    contacts    uuid[]      NOT NULL,                         -- in the order of the bytes
    packed      bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz
);
CREATE UNIQUE INDEX campaign_shipments_open ON campaign_shipments (campaign_id, batch_no) WHERE settled_at IS NULL;
CREATE INDEX campaign_shipments_settled ON campaign_shipments (settled_at) WHERE settled_at IS NOT NULL;

-- migrate:down
-- Forward only: the next change is another migration.
