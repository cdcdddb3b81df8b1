-- migrate:up
-- Whose cart it is by mail, as the session said when something was last put in; null for a guest.
ALTER TABLE carts ADD email text, ADD customer_name text, ADD reminded_at timestamptz;
CREATE INDEX carts_left ON carts (updated_at) WHERE state = 'open' AND reminded_at IS NULL;

-- migrate:down
-- Forward only: the next change is another migration.
