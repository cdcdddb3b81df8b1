-- migrate:up
-- Nobody looks events up by their object: the jobs keep the order. Each event paid for the index when it came in.
DROP INDEX inbox_object;

-- migrate:down
-- Forward only: the next change is another migration.
