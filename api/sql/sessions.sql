-- name: open_session
INSERT INTO sessions (digest, agent, labels, slots, version, token)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING id;

-- name: find_many
-- Seconds since the last committed renewal, by the database's clock.
SELECT digest, id, labels, extract(epoch FROM now() - seen_at)::float8 AS age_s,
    ended_at IS NOT NULL AS ended, token
FROM sessions
WHERE digest = ANY ($1::bytea[]);

-- name: renew_many
-- In order of their ids, as every statement that locks several sessions.
UPDATE sessions
SET seen_at = now()
FROM (
    SELECT id FROM sessions
    WHERE id = ANY ($1::bigint[]) AND ended_at IS NULL
    ORDER BY id
    FOR UPDATE
) AS alive
WHERE sessions.id = alive.id
RETURNING sessions.id, sessions.drain;

-- name: drain_agent
-- All live sessions of that name; in order of their ids, as every statement that locks several.
-- $2 who asks for it.
WITH drained AS (
    UPDATE sessions
    SET drain = true
    FROM (
        SELECT id FROM sessions
        WHERE agent = $1 AND ended_at IS NULL
        ORDER BY id
        FOR UPDATE
    ) AS live
    WHERE sessions.id = live.id
    RETURNING sessions.id
),
noted AS (
    INSERT INTO audit (who, action, about)
    SELECT $2, 'agent drained', $1 FROM drained HAVING count(*) > 0
)
SELECT id FROM drained;

-- name: end_session
UPDATE sessions
SET ended_at = now(), end_reason = $2
WHERE id = $1 AND ended_at IS NULL;

-- name: end_lost
-- Sessions that were silent for longer than $1 seconds. Death is terminal.
UPDATE sessions
SET ended_at = now(), end_reason = 'lost'
FROM (
    SELECT id FROM sessions
    WHERE ended_at IS NULL AND seen_at < now() - make_interval(secs => $1)
    ORDER BY id
    FOR UPDATE SKIP LOCKED
) AS silent
WHERE sessions.id = silent.id
RETURNING sessions.id, agent;

-- name: list_sessions
-- $1: also those that ended; $2: of that name, or null. Newest first.
SELECT agent, labels, slots,
    (SELECT count(*) FROM tasks WHERE session = sessions.id AND status = 'in_progress') AS running,
    version, ended_at IS NULL AS alive, drain, opened_at, seen_at, ended_at
FROM sessions
WHERE ($1 OR ended_at IS NULL) AND ($2::text IS NULL OR agent = $2)
ORDER BY id DESC
LIMIT 1000;
