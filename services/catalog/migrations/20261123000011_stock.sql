-- migrate:up
-- A row in state released is a tombstone: it stays, so that a late HoldStock finds it.
CREATE TABLE holds (
    order_id       uuid        NOT NULL,
    attempt        integer     NOT NULL CHECK (attempt >= 1),
    state          text        NOT NULL CHECK (state IN ('held', 'committed', 'released')),
    expires_at     timestamptz NOT NULL,
    correlation_id text        NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    changed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, attempt)
);
CREATE INDEX holds_expiry ON holds (expires_at) WHERE state = 'held';
-- The stock of an order leaves the warehouse once, whatever number of holds it had.
CREATE UNIQUE INDEX one_commit_per_order ON holds (order_id) WHERE state = 'committed';

-- Never changed and never deleted while the hold is there.
CREATE TABLE hold_lines (
    order_id   uuid    NOT NULL,
    attempt    integer NOT NULL,
    variant_id uuid    NOT NULL REFERENCES variants,
    quantity   bigint  NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    PRIMARY KEY (order_id, attempt, variant_id),
    FOREIGN KEY (order_id, attempt) REFERENCES holds
);
CREATE INDEX hold_lines_variant ON hold_lines (variant_id);

-- Who bought what.
CREATE TABLE sales (
    order_id       uuid        NOT NULL,
    variant_id     uuid        NOT NULL REFERENCES variants,
    quantity       bigint      NOT NULL CHECK (quantity > 0),
    customer_id    uuid,
    correlation_id text        NOT NULL,
    sold_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, variant_id)
);
CREATE INDEX sales_customer ON sales (customer_id) WHERE customer_id IS NOT NULL;

-- migrate:down
-- Forward only: the next change is another migration.
