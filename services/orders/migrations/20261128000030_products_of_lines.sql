-- migrate:up
-- The product a variant belonged to when it was sold; null for what was sold before this was kept.
ALTER TABLE order_lines ADD product_id uuid;

-- migrate:down
-- Forward only: the next change is another migration.
