-- migrate:up
CREATE TABLE carts (
    id          uuid        PRIMARY KEY DEFAULT uuidv7(),
    state       text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'ordered')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cart_items (
    id          uuid        PRIMARY KEY DEFAULT uuidv7(),
    cart_id     uuid        NOT NULL REFERENCES carts ON DELETE CASCADE,
    variant_id  uuid        NOT NULL,
    title       text        NOT NULL,
    quantity    bigint      NOT NULL CHECK (quantity BETWEEN 1 AND 100),
    -- The price the customer was last shown, in minor units.
    unit_price  bigint      NOT NULL CHECK (unit_price >= 0),
    currency    char(3)     NOT NULL,
    UNIQUE (cart_id, variant_id)
);

CREATE SEQUENCE order_numbers START 100001;

CREATE TABLE orders (
    id                uuid        PRIMARY KEY DEFAULT uuidv7(),
    number            text        NOT NULL UNIQUE DEFAULT 'HF-' || nextval('order_numbers'),
    cart_id           uuid        NOT NULL REFERENCES carts,
    status            text        NOT NULL DEFAULT 'pending'
                                  CHECK (status IN ('pending', 'paid', 'cancelled', 'refunded')),
    -- What became of the stock: asked for, taken out of the warehouse, or gone when the money came.
    stock             text        NOT NULL DEFAULT 'held' CHECK (stock IN ('held', 'committed', 'released', 'lost')),
    email             text        NOT NULL,
    shipping_address  jsonb       NOT NULL,
    shipping_method   text        NOT NULL,
    note              text        NOT NULL DEFAULT '',
    currency          char(3)     NOT NULL,
    subtotal          bigint      NOT NULL CHECK (subtotal >= 0),
    discount          bigint      NOT NULL CHECK (discount BETWEEN 0 AND subtotal),
    shipping          bigint      NOT NULL CHECK (shipping >= 0),
    tax               bigint      NOT NULL CHECK (tax >= 0),
    total             bigint      NOT NULL CHECK (total = subtotal - discount + shipping + tax),
    hold_expires_at   timestamptz NOT NULL,
    payment_intent_id text        UNIQUE,
    client_secret     text,
    correlation_id    text        NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    paid_at           timestamptz,
    CHECK ((payment_intent_id IS NULL) = (client_secret IS NULL)),
    CHECK ((status IN ('paid', 'refunded')) = (paid_at IS NOT NULL))
);
-- One live order per cart: this constraint, not the Idempotency-Key, is the promise.
CREATE UNIQUE INDEX orders_one_live_per_cart ON orders (cart_id) WHERE status <> 'cancelled';
CREATE INDEX orders_created ON orders (created_at);
CREATE INDEX orders_pending ON orders (hold_expires_at) WHERE status = 'pending';

CREATE TABLE order_lines (
    order_id    uuid    NOT NULL REFERENCES orders ON DELETE CASCADE,
    variant_id  uuid    NOT NULL,
    sku         text    NOT NULL,
    title       text    NOT NULL,
    quantity    bigint  NOT NULL CHECK (quantity > 0),
    unit_price  bigint  NOT NULL CHECK (unit_price >= 0),
    line_total  bigint  NOT NULL CHECK (line_total = quantity * unit_price),
    PRIMARY KEY (order_id, variant_id)
);

CREATE TABLE order_payments (
    payment_intent_id text        PRIMARY KEY,
    order_id          uuid        NOT NULL REFERENCES orders,
    amount            bigint      NOT NULL CHECK (amount > 0),
    currency          char(3)     NOT NULL,
    outcome           text        NOT NULL CHECK (outcome IN ('applied', 'refund')),
    recorded_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX order_payments_one_applied ON order_payments (order_id) WHERE outcome = 'applied';

CREATE TABLE order_refunds (
    refund_id   text        PRIMARY KEY,
    order_id    uuid        NOT NULL REFERENCES orders,
    amount      bigint      NOT NULL CHECK (amount > 0),
    currency    char(3)     NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

-- The timeline: each change with why and under which correlation id.
CREATE TABLE order_events (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id       uuid        NOT NULL REFERENCES orders ON DELETE CASCADE,
    status         text        NOT NULL,
    reason         text        NOT NULL,
    correlation_id text        NOT NULL,
    at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_events_order ON order_events (order_id, id);

CREATE TABLE bookable_services (
    id               uuid    PRIMARY KEY DEFAULT uuidv7(),
    slug             text    NOT NULL UNIQUE,
    title            text    NOT NULL,
    description      text    NOT NULL,
    duration_minutes integer NOT NULL CHECK (duration_minutes > 0),
    price            bigint  NOT NULL CHECK (price >= 0),
    currency         char(3) NOT NULL
);
INSERT INTO bookable_services (slug, title, description, duration_minutes, price, currency) VALUES
    ('full-groom-dog', 'Full groom, dog',
     'Bath, blow dry, brush-out, haircut and nail trim. Bring a photograph if you have a cut in mind.', 90, 7500, 'USD'),
    ('bath-and-brush', 'Bath and brush',
     'A gentle wash with a shampoo that suits the coat, dried by hand and brushed through.', 45, 3900, 'USD'),
    ('nail-trim', 'Nail trim',
     'Claws clipped and smoothed for dogs, cats, rabbits and birds. Most animals are done in ten minutes.', 15, 1500, 'USD'),
    ('cat-comb-out', 'Cat comb-out',
     'Loose undercoat and small mats combed out in a quiet room, without water.', 40, 4200, 'USD'),
    ('puppy-first-visit', 'Puppy''s first visit',
     'An unhurried half hour to meet the table, the brush and the dryer, so that the next visits are easy.', 30, 2500, 'USD');

-- migrate:down
-- Forward only: the next change is another migration.
