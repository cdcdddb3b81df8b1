-- migrate:up
-- What is no longer offered stays for the appointments that were made for it.
ALTER TABLE bookable_services ADD active boolean NOT NULL DEFAULT true;

-- migrate:down
-- Forward only: the next change is another migration.
