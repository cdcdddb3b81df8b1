-- migrate:up
-- A buyer is a customer's id or an address, so the two meet as text. Each purchase asks whether its buyer was erased:
-- without this it would read all who ever were.
CREATE UNIQUE INDEX erased_customers_text ON erased_customers ((id::text));

-- migrate:down
-- Forward only: the next change is another migration.
