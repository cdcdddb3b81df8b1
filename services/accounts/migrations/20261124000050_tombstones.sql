-- migrate:up
-- An address that mail checks take for one and that never leads anywhere (RFC 2606): the copy at notifications has it too.
ALTER TABLE accounts
    DROP CONSTRAINT accounts_erased_check,
    ADD CONSTRAINT accounts_erased_check CHECK (
        status <> 'erased' OR (password_hash IS NULL AND email = 'erased-' || id || '@erased.example'));

-- migrate:down
-- Forward only: the next change is another migration.
