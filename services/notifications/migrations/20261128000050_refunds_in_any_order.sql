-- migrate:up
-- Which figure of an order's refunds this is: one that failed takes it down again, whatever arrives last.
ALTER TABLE purchases ADD COLUMN refunds_known bigint NOT NULL DEFAULT 0 CHECK (refunds_known >= 0);

-- migrate:down
-- Forward only: the next change is another migration.
