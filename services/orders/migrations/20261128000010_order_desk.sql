-- migrate:up
-- Who carries a fulfilled order.
ALTER TABLE orders ADD carrier text, ADD tracking_number text, ADD tracking_url text;

-- Money we decided to send back: counted from the decision on, so that two can never take more than came in.
CREATE TABLE refund_requests (
    id                uuid        PRIMARY KEY DEFAULT uuidv7(),
    order_id          uuid        NOT NULL REFERENCES orders,
    payment_intent_id text        NOT NULL REFERENCES order_payments,
    amount            bigint      NOT NULL CHECK (amount > 0),
    currency          char(3)     NOT NULL,
    -- A sentence for the customer, or the code of one.
    reason            text        NOT NULL,
    actor             text        NOT NULL,
    state             text        NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'refunded', 'failed')),
    failure           text,
    refund_id         text        UNIQUE,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'failed') = (failure IS NOT NULL)),
    CHECK (state <> 'refunded' OR refund_id IS NOT NULL)
);
CREATE INDEX refund_requests_order ON refund_requests (order_id);

CREATE INDEX orders_email ON orders (lower(email), id DESC);

-- migrate:down
-- Forward only: the next change is another migration.
