-- migrate:up
CREATE TABLE payments (
    -- Also Stripe's idempotency key, so that asking again can never make a second intent.
    id                uuid        PRIMARY KEY DEFAULT uuidv7(),
    order_id          uuid        NOT NULL,
    attempt           integer     NOT NULL CHECK (attempt > 0),
    amount            bigint      NOT NULL CHECK (amount >= 0),
    currency          char(3)     NOT NULL,
    email             text        NOT NULL,
    state             text        NOT NULL DEFAULT 'creating'
                                  CHECK (state IN ('creating', 'open', 'processing', 'succeeded', 'canceled')),
    -- Counts Stripe's keys of this payment: a key that Stripe answers with a stored 500 is of no use any more.
    stripe_key        integer     NOT NULL DEFAULT 1,
    payment_intent_id text        UNIQUE,
    client_secret     text,
    correlation_id    text        NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, attempt),
    CHECK ((payment_intent_id IS NULL) = (client_secret IS NULL)),
    CHECK (state IN ('creating', 'canceled') OR payment_intent_id IS NOT NULL)
);
CREATE UNIQUE INDEX payments_one_live_per_order ON payments (order_id) WHERE state <> 'canceled';

CREATE TABLE refunds (
    -- Also Stripe's idempotency key.
    id                uuid        PRIMARY KEY DEFAULT uuidv7(),
    idempotency_key   text        NOT NULL UNIQUE,
    payment_id        uuid        NOT NULL REFERENCES payments,
    amount            bigint      NOT NULL CHECK (amount > 0),
    currency          char(3)     NOT NULL,
    reason            text        NOT NULL,
    state             text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'failed')),
    stripe_refund_id  text        UNIQUE,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX refunds_payment ON refunds (payment_id);

-- migrate:down
-- Forward only: the next change is another migration.
