-- migrate:up
-- What a customer pays for again and again. Stripe keeps the calendar and charges; a row follows what Stripe says.
CREATE TABLE subscriptions (
    -- Also Stripe's idempotency key, so that asking again can never make a second subscription.
    id                   uuid        PRIMARY KEY DEFAULT uuidv7(),
    account_id           uuid        NOT NULL,
    customer_id          text        NOT NULL,
    customer_name        text        NOT NULL,
    email                text        NOT NULL,
    plan                 text        NOT NULL,
    title                text        NOT NULL,
    price_id             text        NOT NULL,
    amount               bigint      NOT NULL CHECK (amount >= 0),
    currency             char(3)     NOT NULL,
    every                text        NOT NULL CHECK (every IN ('day', 'week', 'month', 'year')),
    every_count          integer     NOT NULL CHECK (every_count > 0),
    -- The saved card it is charged to; none when the customer gives one with the first payment.
    payment_method_id    text,
    -- Two words of ours, then Stripe's.
    state                text        NOT NULL DEFAULT 'creating'
                                     CHECK (state IN ('creating', 'refused', 'incomplete', 'incomplete_expired',
                                                      'trialing', 'active', 'past_due', 'unpaid', 'paused',
                                                      'canceled')),
    stripe_key           integer     NOT NULL DEFAULT 1,
    stripe_id            text        UNIQUE,
    cancel_at_period_end boolean     NOT NULL DEFAULT false,
    current_period_end   timestamptz,
    ended_at             timestamptz,
    -- What Stripe says is written only over what was there when it was asked.
    version              integer     NOT NULL DEFAULT 1,
    correlation_id       text        NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CHECK ((state IN ('creating', 'refused')) = (stripe_id IS NULL))
);
CREATE UNIQUE INDEX subscriptions_one_live_per_plan ON subscriptions (account_id, plan)
    WHERE state NOT IN ('refused', 'incomplete_expired', 'canceled');
CREATE INDEX subscriptions_of_account ON subscriptions (account_id, id DESC) WHERE stripe_id IS NOT NULL;

-- How a subscription asked for its money, as Stripe has it.
CREATE TABLE subscription_invoices (
    id              text        PRIMARY KEY,
    subscription_id uuid        NOT NULL REFERENCES subscriptions,
    reason          text        NOT NULL,
    amount_due      bigint      NOT NULL,
    amount_paid     bigint      NOT NULL,
    currency        char(3)     NOT NULL,
    status          text        NOT NULL,
    attempts        integer     NOT NULL CHECK (attempts >= 0),
    next_attempt_at timestamptz,
    made_at         timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX subscription_invoices_subscription ON subscription_invoices (subscription_id, made_at DESC);

-- migrate:down
-- Forward only: the next change is another migration.
