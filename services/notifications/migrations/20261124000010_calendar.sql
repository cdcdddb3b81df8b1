-- migrate:up
ALTER TABLE emails ADD COLUMN calendar text NOT NULL DEFAULT '';

-- migrate:down
-- Forward only: the next change is another migration.
