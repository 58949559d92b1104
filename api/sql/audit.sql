-- What is done by one statement is noted by the same one: see tasks.sql and tokens.sql.

-- name: add_entry
INSERT INTO audit (who, action, about) VALUES ($1, $2, $3);

-- name: list_entries
-- Newest first, below the cursor $1.
SELECT id, at, who, action, task, tasks, about
FROM audit
WHERE id < $1
ORDER BY id DESC
LIMIT $2;

-- name: drop_entries
-- Older than $1 days, at most 10,000; how many went. The oldest have the lowest ids: no index by
-- time is needed.
WITH old AS (
    DELETE FROM audit
    WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT 10000)
        AND at < now() - make_interval(days => $1)
    RETURNING 1
)
SELECT count(*) FROM old;

-- name: lock_submissions
-- Submissions of one token go one by one where they are counted.
SELECT pg_advisory_xact_lock($1, hashtext($2));

-- name: nth_submission
-- Seconds since the $2-th newest submission of $1; null where there were fewer.
SELECT extract(epoch FROM clock_timestamp() - at)::float8
FROM audit
WHERE who = $1 AND action = 'tasks submitted'
ORDER BY id DESC
OFFSET $2 - 1
LIMIT 1;
