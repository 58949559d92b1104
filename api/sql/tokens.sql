-- name: lock_tokens
-- Made and revoked one after the other: the rules about the last admin look at several rows.
SELECT pg_advisory_xact_lock($1);

-- name: add_token
-- $1 digest, $2 name, $3 role, $4 who makes it, $5 the most that may live. No row where the name is
-- taken, or there are as many already.
WITH made AS (
    INSERT INTO tokens (digest, name, role, created_by)
    SELECT $1, $2, $3, $4
    WHERE (SELECT count(*) FROM tokens WHERE revoked_at IS NULL) < $5
    ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
    RETURNING name, role
),
noted AS (
    INSERT INTO audit (who, action, about)
    SELECT $4, 'token made', name || ' (' || role || ')' FROM made
)
SELECT name, role FROM made;

-- name: count_admins
-- Those that live, but for the name $1.
SELECT count(*) FROM tokens WHERE role = 'admin' AND revoked_at IS NULL AND name <> $1;

-- name: revoke_token
-- $1 name, $2 who revokes it. Its sessions end with it: whoever stole it must not keep them.
WITH revoked AS (
    UPDATE tokens SET revoked_at = now()
    WHERE name = $1 AND revoked_at IS NULL
    RETURNING name, role
),
noted AS (
    INSERT INTO audit (who, action, about)
    SELECT $2, 'token revoked', name || ' (' || role || ')' FROM revoked
)
UPDATE sessions
SET ended_at = now(), end_reason = 'revoked'
FROM (
    SELECT id FROM sessions
    WHERE ended_at IS NULL AND token IN (SELECT name FROM revoked)
    ORDER BY id
    FOR UPDATE
) AS held
WHERE sessions.id = held.id;

-- name: find_token
-- The one that lives, or the one of that name that was revoked last.
SELECT name, role, created_at, created_by, used_at, revoked_at
FROM tokens
WHERE name = $1
ORDER BY revoked_at DESC NULLS FIRST
LIMIT 1;

-- name: list_tokens
-- $1: also those that were revoked. Newest first.
SELECT name, role, created_at, created_by, used_at, revoked_at
FROM tokens
WHERE $1 OR revoked_at IS NULL
ORDER BY id DESC
LIMIT 20000;

-- name: changed_tokens
-- Made or revoked in the last $1 seconds; null: all that live.
SELECT id, digest, name, role, revoked_at IS NOT NULL AS revoked
FROM tokens
WHERE CASE WHEN $1::float8 IS NULL THEN revoked_at IS NULL
    ELSE coalesce(revoked_at, created_at) > now() - make_interval(secs => $1) END;

-- name: note_used
-- At most once a minute, whoever asks; in order of their ids, past those that a neighbour notes.
UPDATE tokens SET used_at = now()
FROM (
    SELECT id FROM tokens
    WHERE id = ANY ($1::bigint[]) AND (used_at IS NULL OR used_at < now() - interval '50 seconds')
    ORDER BY id
    FOR UPDATE SKIP LOCKED
) AS stale
WHERE tokens.id = stale.id;
