-- migrate:up
-- When a subscription was last compared with Stripe's, whatever became of its events.
ALTER TABLE subscriptions ADD COLUMN checked_at timestamptz;
CREATE INDEX subscriptions_live ON subscriptions (checked_at NULLS FIRST, id)
    WHERE stripe_id IS NOT NULL AND state NOT IN ('incomplete_expired', 'canceled');

-- migrate:down
-- Forward only: the next change is another migration.
