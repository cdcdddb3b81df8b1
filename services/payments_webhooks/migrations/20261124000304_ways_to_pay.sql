-- migrate:up
-- A payment is an intent that the shop's own page confirms, or a page that Stripe hosts. One of them is live at a time.
ALTER TABLE payments
    ADD COLUMN kind        text NOT NULL DEFAULT 'intent' CHECK (kind IN ('intent', 'session')),
    ADD COLUMN session_id  text UNIQUE,
    ADD COLUMN session_url text,
    -- What the hosted page says, and where it leads back to: the same at every repetition.
    ADD COLUMN title       text NOT NULL DEFAULT '',
    ADD COLUMN return_path text NOT NULL DEFAULT '/',
    -- What the next payment of the order shall be, once Stripe has confirmed that this one is cancelled.
    ADD COLUMN successor   text CHECK (successor IN ('intent', 'session')),
    DROP CONSTRAINT payments_check,
    DROP CONSTRAINT payments_check1,
    ADD CHECK (kind = 'session' OR (payment_intent_id IS NULL) = (client_secret IS NULL)),
    ADD CHECK (state IN ('creating', 'canceled') OR payment_intent_id IS NOT NULL OR session_id IS NOT NULL),
    ADD CHECK ((session_id IS NULL) = (session_url IS NULL)),
    ADD CHECK (kind = 'session' OR session_id IS NULL);
-- The reconciler looks at both kinds.
DROP INDEX payments_live;
CREATE INDEX payments_live ON payments (checked_at NULLS FIRST, id) WHERE state IN ('open', 'processing');

-- Who a customer of ours is at Stripe. Cards are kept there; we hold this reference.
CREATE TABLE stripe_customers (
    account_id uuid        PRIMARY KEY,
    stripe_id  text        UNIQUE,
    email      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- migrate:down
-- Forward only: the next change is another migration.
