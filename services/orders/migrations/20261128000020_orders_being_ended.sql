-- migrate:up
-- Why and by whose hand an order is being ended: written before the payment provider is asked, so that whoever finds
-- the order afterwards knows that its payment may be over, and ends it. Taken back when the provider says no.
ALTER TABLE orders
    ADD ending_reason text,
    ADD ending_actor  text,
    ADD CHECK ((ending_reason IS NULL) = (ending_actor IS NULL));

-- migrate:down
-- Forward only: the next change is another migration.
