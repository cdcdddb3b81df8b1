-- migrate:up
-- A cart is a customer's, or a guest's who holds its cookie.
ALTER TABLE carts
    ADD customer_id uuid,
    ADD merged_into uuid REFERENCES carts,
    DROP CONSTRAINT carts_state_check,
    ADD CONSTRAINT carts_state_check CHECK (state IN ('open', 'ordered', 'merged')),
    ADD CHECK ((state = 'merged') = (merged_into IS NOT NULL));
CREATE UNIQUE INDEX carts_one_open_per_customer ON carts (customer_id) WHERE state = 'open';

ALTER TABLE orders ADD customer_id uuid;
-- Ids are UUIDv7 and so sort by birth: this is the order of the list, newest first.
CREATE INDEX orders_of_customer ON orders (customer_id, id DESC) WHERE customer_id IS NOT NULL;

-- The category at the time of the sale; the catalog may move the product later.
ALTER TABLE order_lines ADD category text NOT NULL DEFAULT '';

ALTER TABLE order_events ADD actor text NOT NULL DEFAULT 'orders' CHECK (actor <> '');

-- What became of a paid order follows from its refunds, and from whether it was sent.
ALTER TABLE orders
    ADD fulfilled_at timestamptz,
    DROP CONSTRAINT orders_status_check,
    ADD CONSTRAINT orders_status_check CHECK (
        status IN ('pending', 'paid', 'fulfilled', 'cancelled', 'partially_refunded', 'refunded')),
    DROP CONSTRAINT orders_check3,
    ADD CONSTRAINT orders_paid_check CHECK ((status IN ('pending', 'cancelled')) = (paid_at IS NULL)),
    ADD CONSTRAINT orders_fulfilled_check CHECK (
        (status <> 'fulfilled' OR fulfilled_at IS NOT NULL) AND (fulfilled_at IS NULL OR paid_at IS NOT NULL));

-- A refund belongs to a payment: money that came twice and went back once is no refund of the order.
ALTER TABLE order_refunds
    ADD payment_intent_id text,
    ADD failed_at timestamptz,
    ADD failure text,
    ADD CHECK ((failed_at IS NULL) = (failure IS NULL));
UPDATE order_refunds r SET payment_intent_id = p.payment_intent_id
  FROM order_payments p WHERE p.order_id = r.order_id AND p.outcome = 'applied';
CREATE INDEX order_refunds_order ON order_refunds (order_id);
CREATE INDEX order_payments_order ON order_payments (order_id);

-- migrate:down
-- Forward only: the next change is another migration.
