-- migrate:up
ALTER TABLE contacts
    -- What accounts said last. Consent changes when that changes, so that another event does not undo a withdrawal here.
    ADD COLUMN account_consent boolean,
    ADD COLUMN known_at        timestamptz NOT NULL DEFAULT now();
UPDATE contacts SET account_consent = marketing_consent;

-- So that an event that comes late does not bring anybody back.
CREATE TABLE erased_customers (
    id uuid        PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);

-- Nothing goes to an address that bounced, no marketing to one that complained.
CREATE TABLE suppressions (
    address text        PRIMARY KEY CHECK (address = lower(address)),
    reason  text        NOT NULL CHECK (reason IN ('bounced', 'complained')),
    at      timestamptz NOT NULL DEFAULT now()
);

-- What an address declined; it need not be a customer's.
CREATE TABLE opt_outs (
    address text        NOT NULL CHECK (address = lower(address)),
    topic   text        NOT NULL CHECK (topic IN ('news', 'cart_reminders', 'back_in_stock')),
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (address, topic)
);

-- Who bought what, for audiences. `buyer` is the customer's id or, of a guest, the address.
CREATE TABLE purchases (
    order_id    uuid        PRIMARY KEY,
    buyer       text,
    total       bigint      CHECK (total >= 0),
    currency    text,
    refunded    bigint      NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    product_ids text[]      NOT NULL DEFAULT '{}',
    paid_at     timestamptz,
    -- A refund may be heard of before its order.
    CHECK ((buyer IS NULL) = (paid_at IS NULL) AND (buyer IS NULL) = (total IS NULL))
);
-- Erasing somebody looks for them everywhere.
CREATE INDEX campaign_recipients_contact ON campaign_recipients (contact_id);
CREATE INDEX emails_recipient ON emails (lower("to"));
CREATE INDEX purchases_buyer ON purchases (buyer, paid_at);

ALTER TABLE emails
    ADD COLUMN topic       text CHECK (topic IN ('news', 'cart_reminders', 'back_in_stock')),
    ADD COLUMN unsubscribe text NOT NULL DEFAULT '';
UPDATE emails SET topic = 'news' WHERE category = 'marketing';

-- migrate:down
-- Forward only: the next change is another migration.
