-- migrate:up
-- Erasing somebody looks for them.
CREATE INDEX payments_email ON payments (lower(email));

-- migrate:down
-- Forward only: the next change is another migration.
