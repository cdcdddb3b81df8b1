-- migrate:up
-- Up to when Stripe's events are known to have been taken in.
CREATE TABLE reconciliation (
    id        boolean     PRIMARY KEY DEFAULT true CHECK (id),
    watermark timestamptz NOT NULL
);

-- Where Stripe's books and ours differed; what was repaired stays as a row.
CREATE TABLE drift (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind     text        NOT NULL CHECK (kind IN ('missing_event', 'state_differs', 'amount_differs', 'beyond_reach')),
    -- The event or intent it is about.
    subject  text        NOT NULL,
    ours     text        NOT NULL,
    stripes  text        NOT NULL,
    -- Whether something was put into the inbox that mends it.
    repaired boolean     NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, subject, ours, stripes)
);

-- When a payment that is still open was last compared with Stripe.
ALTER TABLE payments ADD COLUMN checked_at timestamptz;
CREATE INDEX payments_live ON payments (checked_at NULLS FIRST, id)
    WHERE state IN ('open', 'processing') AND payment_intent_id IS NOT NULL;

-- migrate:down
-- Forward only: the next change is another migration.
