-- migrate:up
-- A second intent that was paid for one payment: kept, so that its money can go back.
ALTER TABLE payments ADD COLUMN stray boolean NOT NULL DEFAULT false;
ALTER TABLE payments ADD CHECK (NOT stray OR state = 'succeeded');
DROP INDEX payments_one_live_per_order;
CREATE UNIQUE INDEX payments_one_live_per_order ON payments (order_id) WHERE state <> 'canceled' AND NOT stray;

-- Why a refund failed, in Stripe's words.
ALTER TABLE refunds ADD COLUMN failure_reason text NOT NULL DEFAULT '';

CREATE TABLE disputes (
    id                text        PRIMARY KEY,
    -- None when it is about a subscription's invoice.
    payment_id        uuid        REFERENCES payments,
    payment_intent_id text        NOT NULL,
    charge_id         text        NOT NULL,
    amount            bigint      NOT NULL CHECK (amount >= 0),
    currency          char(3)     NOT NULL,
    reason            text        NOT NULL,
    status            text        NOT NULL,
    evidence_due_by   timestamptz,
    opened_at         timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX disputes_opened ON disputes (opened_at DESC, id);

-- A dead letter is found by its event, to be redriven with it.
CREATE INDEX jobs_parked_events ON jobs ((payload ->> 'inbox_id')) WHERE state = 'parked';

-- migrate:down
-- Forward only: the next change is another migration.
