-- migrate:up
-- To purge by age and to show the newest. Rows come in about that order, so that a summary of blocks is enough.
CREATE INDEX inbox_received ON inbox USING brin (received_at) WITH (autosummarize = on);

-- migrate:down
-- Forward only: the next change is another migration.
