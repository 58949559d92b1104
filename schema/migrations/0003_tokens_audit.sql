-- Who may speak to the API, and who did what.

-- Tokens are kept as digests. Revoked ones stay, for the audit: a name may be given again, but
-- only one that lives has it.
CREATE TABLE tokens (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     bytea NOT NULL UNIQUE CHECK (length(digest) = 32),  -- SHA-256 of the token
    name       text NOT NULL,
    role       text NOT NULL CHECK (role IN ('admin', 'submit', 'read', 'agent')),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    used_at    timestamptz,  -- written at most once a minute; in no index, so it stays in place
    revoked_at timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked_at IS NULL;
-- Processes keep all that live in memory, and ask every few seconds what has changed.
CREATE INDEX tokens_changed ON tokens ((coalesce(revoked_at, created_at)));

-- The name of the token that opened a session: no other one may use it. Null where none was asked
-- for.
ALTER TABLE sessions ADD COLUMN token text;
CREATE INDEX sessions_token ON sessions (token) WHERE ended_at IS NULL AND token IS NOT NULL;
ALTER TABLE sessions DROP CONSTRAINT sessions_end_reason_check;
ALTER TABLE sessions ADD CONSTRAINT sessions_end_reason_check
    CHECK (end_reason IN ('closed', 'replaced', 'lost', 'revoked'));

-- What people did. Agents' work is not in it.
CREATE TABLE audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    task   bigint,   -- the first one, where it is about tasks
    tasks  integer,  -- how many
    who    text NOT NULL,
    action text NOT NULL,
    about  text
);
-- How many submissions one token had in the last minute.
CREATE INDEX audit_submitted ON audit (who, id) WHERE action = 'tasks submitted';

-- Append-only: rows never change, and only those that retention may take can go.
CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_stays();
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
    FOR EACH ROW WHEN (OLD.at > now() - interval '23 hours') EXECUTE FUNCTION audit_stays();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();
