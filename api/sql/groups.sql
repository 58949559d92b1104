-- name: list_groups
-- Newest first, below the number $1; $2: a part of the name in lower case, or null.
SELECT id, name
FROM groups
WHERE id < $1 AND ($2::text IS NULL OR strpos(lower(name), $2) > 0)
ORDER BY id DESC
LIMIT $3;

-- name: count_many
-- $2: the reasons that blame a machine.
SELECT group_name, status, count(*), min(submitted_at), max(finished_at),
    count(*) FILTER (WHERE status = 'failed' AND reason = ANY ($2::text[])), now()
FROM tasks
WHERE group_name = ANY ($1::text[])
GROUP BY group_name, status;

-- name: list_slowest
-- Those that ran, or run, the longest.
SELECT id
FROM tasks
WHERE group_name = $1 AND started_at IS NOT NULL
ORDER BY coalesce(run_s, extract(epoch FROM coalesce(finished_at, now()) - started_at)) DESC, id
LIMIT $2;

-- name: find_last
SELECT max(id) FROM tasks WHERE group_name = $1;

-- name: cancel_some
-- The next tasks of the group $1 by number, above $2 and up to $3, at most $4; $5 who cancels. What
-- is done to one is what `cancel` in tasks.sql does. Returns how far it came, how many had been asked
-- before, and the tasks that were changed; one row at least.
-- A few at a time: claims pass by what is locked, and while a transaction is open they walk over
-- the dead rows of all that were claimed before them. What is picked is joined with nothing: a kept
-- plan takes it for a dozen rows and loops over all pairs: 160 ms for 1,000 tasks in place of 27.
WITH picked AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE group_name = $1 AND id > $2 AND id <= $3
        AND status IN ('pending', 'scheduled', 'in_progress')
    ORDER BY id
    LIMIT $4
),
locked AS MATERIALIZED (
    SELECT id, cancel_requested FROM tasks
    WHERE id = ANY (ARRAY(SELECT id FROM picked))
        AND status IN ('pending', 'scheduled', 'in_progress')
    ORDER BY id
    FOR UPDATE
),
cancelled AS (
    UPDATE tasks
    SET status = CASE WHEN session IS NULL THEN 'cancelled' ELSE status END,
        reason = CASE WHEN session IS NULL THEN 'cancelled' ELSE reason END,
        finished_at = CASE WHEN session IS NULL THEN now() END,
        cancel_requested = true
    WHERE id = ANY (ARRAY(SELECT id FROM locked WHERE NOT cancel_requested))
    RETURNING id, status, session
),
noted AS (
    INSERT INTO audit (who, action, task, tasks, about)
    SELECT $5, 'group cancelled', min(id), count(*), $1 FROM cancelled HAVING count(*) > 0
)
SELECT picked.last, before.asked, cancelled.id, cancelled.session
FROM (SELECT max(id) AS last FROM picked) AS picked
CROSS JOIN (SELECT count(*) FILTER (WHERE cancel_requested) AS asked FROM locked) AS before
LEFT JOIN cancelled ON true
ORDER BY cancelled.id;

-- name: retry_some
-- The next finished tasks of the group $1 by number, above $2 and up to $3, at most $4, that ended
-- as $5 and not after $6 (or whenever, where it is null); $7 who asks for it. What is done to one is
-- what `retry` in tasks.sql does: those whose secrets are gone are passed over (by a scalar: EXISTS is
-- hashed, and reads all secrets). Returns how far it came, and the tasks that are queued; one row at
-- least.
WITH picked AS MATERIALIZED (
    SELECT id FROM tasks
    WHERE group_name = $1 AND id > $2 AND id <= $3 AND status = ANY ($5::text[])
        AND ($6::timestamptz IS NULL OR finished_at <= $6)
        AND (secret_names IS NULL OR (SELECT true FROM task_secrets WHERE task = tasks.id))
    ORDER BY id
    LIMIT $4
),
locked AS MATERIALIZED (
    SELECT * FROM tasks
    WHERE id = ANY (ARRAY(SELECT id FROM picked)) AND status = ANY ($5::text[])
        AND ($6::timestamptz IS NULL OR finished_at <= $6)
        AND (secret_names IS NULL OR (SELECT true FROM task_secrets WHERE task = tasks.id))
    ORDER BY id
    FOR UPDATE
),
kept AS (
    INSERT INTO attempts (
        task, attempt, session, started_at, finished_at, stdout_bytes, stdout_crc, stderr_bytes,
        stderr_crc, exit_code, day, run_s, signal, cut, reason, message
    )
    SELECT id, attempt, session, started_at, finished_at, stdout_bytes, stdout_crc, stderr_bytes,
        stderr_crc, exit_code, day, run_s, signal, cut, reason, message
    FROM locked
    WHERE started_at IS NOT NULL
),
noted AS (
    INSERT INTO audit (who, action, task, tasks, about)
    SELECT $7, 'group retried', min(id), count(*), $1 FROM locked HAVING count(*) > 0
),
queued AS (
    UPDATE tasks
    SET status = 'pending', queue_seq = nextval('queue_seq'), failures = 0, crashes = 0,
        cancel_requested = false, session = NULL, started_at = NULL, finished_at = NULL,
        reason = NULL, exit_code = NULL, signal = NULL, message = NULL, run_s = NULL,
        run_after = NULL, stdout_bytes = NULL, stdout_crc = NULL, stderr_bytes = NULL,
        stderr_crc = NULL, cut = 0
    WHERE id = ANY (ARRAY(SELECT id FROM locked))
    RETURNING id, lane, priority, queue_seq
)
SELECT picked.last, queued.id, queued.lane, queued.priority, queued.queue_seq
FROM (SELECT max(id) AS last FROM picked) AS picked
LEFT JOIN queued ON true
ORDER BY queued.id;
