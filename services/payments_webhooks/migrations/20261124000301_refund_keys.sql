-- migrate:up
-- Counts Stripe's keys of a refund, as payments do: one that Stripe answers with a stored 500 is of no use any more.
ALTER TABLE refunds ADD COLUMN stripe_key integer NOT NULL DEFAULT 1;

-- migrate:down
-- Forward only: the next change is another migration.
