-- name: submit_many
-- One row for each new task, in the order of the arrays. A key that is there already gives no row.
-- $1 who submits: all of it is one entry of the audit. $19 the names of each task's secrets, joined
-- by =, which no name has.
-- A task that comes with a session has been claimed by it when it is stored: one commit instead of
-- two, where somebody waits for just that.
WITH new AS (
    INSERT INTO tasks (
        command, name, group_name, cwd, key, key_digest, env, lane, priority, max_attempts,
        timeout_s, no_output_timeout_s, run_after, exclusive, isolation, image, secret_names, status,
        session, attempt, started_at, day
    )
    SELECT
        command, name, group_name, cwd, key, key_digest, env, lane, priority, max_attempts,
        timeout_s, no_output_timeout_s, run_after, exclusive, isolation, image,
        string_to_array(secret_names, '='),
        CASE
            WHEN session IS NOT NULL THEN 'in_progress'
            WHEN run_after > now() THEN 'scheduled'
            ELSE 'pending'
        END,
        session, (session IS NOT NULL)::integer,
        CASE WHEN session IS NOT NULL THEN now() END,
        CASE WHEN session IS NOT NULL THEN (now() AT TIME ZONE 'UTC')::date END
    FROM unnest(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::jsonb[],
        $9::integer[], $10::smallint[], $11::smallint[], $12::float8[], $13::float8[],
        $14::timestamptz[], $15::boolean[], $16::text[], $17::text[], $18::bigint[], $19::text[]
    ) WITH ORDINALITY AS t (
        command, name, group_name, cwd, key, key_digest, env, lane, priority, max_attempts,
        timeout_s, no_output_timeout_s, run_after, exclusive, isolation, image, session,
        secret_names, place
    )
    ORDER BY place
    ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING
    RETURNING id, status, lane, priority, queue_seq, key, group_name, day
),
noted AS (
    INSERT INTO audit (who, action, task, tasks)
    SELECT $1, 'tasks submitted', min(id), count(*) FROM new HAVING count(*) > 0
),
-- In their order, so that two submissions that bring the same groups wait for each other one way.
named AS (
    INSERT INTO groups (name)
    SELECT DISTINCT group_name FROM new WHERE group_name IS NOT NULL ORDER BY group_name
    ON CONFLICT (name) DO NOTHING
)
SELECT id, status, lane, priority, queue_seq, key, day FROM new;

-- name: find_keys
SELECT key, key_digest, id, status FROM tasks WHERE key = ANY ($1::text[]);

-- name: get_many
SELECT
    t.id, t.status, t.command, t.priority, t.max_attempts, t.attempt, t.submitted_at, t.name,
    t.group_name, t.env, t.secret_names, t.cwd, lanes.needs, t.timeout_s, t.no_output_timeout_s,
    t.run_after, t.exclusive, t.isolation, t.image, t.key, t.cancel_requested, s.agent, t.reason,
    t.exit_code, t.signal, t.message, t.started_at, t.finished_at, t.run_s
FROM tasks AS t
JOIN lanes ON lanes.id = t.lane
LEFT JOIN sessions AS s ON s.id = t.session
WHERE t.id = ANY ($1::bigint[])
ORDER BY t.id DESC;

-- name: list_ids
-- Newest first, below the cursor $1. Each filter is off when null.
SELECT t.id
FROM tasks AS t
WHERE t.id < $1
    AND ($2::text[] IS NULL OR t.status = ANY ($2))
    AND ($3::text IS NULL OR t.group_name = $3)
    AND ($4::text IS NULL OR t.name = $4)
    AND ($5::text IS NULL OR t.session IN (SELECT id FROM sessions WHERE agent = $5))
ORDER BY t.id DESC
LIMIT $6;

-- name: earlier_attempts
SELECT a.attempt, s.agent, a.reason, a.exit_code, a.signal, a.message, a.started_at, a.finished_at,
    a.run_s
FROM attempts AS a
LEFT JOIN sessions AS s ON s.id = a.session
WHERE a.task = $1
ORDER BY a.attempt;

-- name: cancel
-- What has not started, and what has nobody to ask, ends at once; the rest is asked to end.
-- $2 who cancels.
WITH cancelled AS (
    UPDATE tasks
    SET status = CASE WHEN session IS NULL THEN 'cancelled' ELSE status END,
        reason = CASE WHEN session IS NULL THEN 'cancelled' ELSE reason END,
        finished_at = CASE WHEN session IS NULL THEN now() END,
        cancel_requested = true
    WHERE id = $1 AND status IN ('pending', 'scheduled', 'in_progress')
    RETURNING id, status, session
),
noted AS (
    INSERT INTO audit (who, action, task, tasks) SELECT $2, 'task cancelled', id, 1 FROM cancelled
)
SELECT status, session FROM cancelled;

-- name: retry
-- $2: the attempt that the retry follows, or null. $3 who asks for it. The finished attempt goes to
-- the history. A task whose secrets are gone cannot run again.
WITH finished AS (
    SELECT * FROM tasks
    WHERE id = $1 AND status IN ('succeeded', 'failed', 'cancelled')
        AND ($2::integer IS NULL OR attempt = $2)
        AND (secret_names IS NULL OR EXISTS (SELECT FROM task_secrets WHERE task = tasks.id))
    FOR UPDATE
),
kept AS (
    INSERT INTO attempts (
        task, attempt, session, started_at, finished_at, stdout_bytes, stdout_crc, stderr_bytes,
        stderr_crc, exit_code, day, run_s, signal, cut, reason, message
    )
    SELECT id, attempt, session, started_at, finished_at, stdout_bytes, stdout_crc, stderr_bytes,
        stderr_crc, exit_code, day, run_s, signal, cut, reason, message
    FROM finished
    WHERE started_at IS NOT NULL
),
noted AS (
    INSERT INTO audit (who, action, task, tasks) SELECT $3, 'task retried', id, 1 FROM finished
)
UPDATE tasks
SET status = 'pending', queue_seq = nextval('queue_seq'), failures = 0, crashes = 0,
    cancel_requested = false, session = NULL, started_at = NULL, finished_at = NULL, reason = NULL,
    exit_code = NULL, signal = NULL, message = NULL, run_s = NULL, run_after = NULL,
    stdout_bytes = NULL, stdout_crc = NULL, stderr_bytes = NULL, stderr_crc = NULL, cut = 0
FROM finished
WHERE tasks.id = finished.id
RETURNING tasks.lane, tasks.priority, tasks.queue_seq;

-- name: promote_due
-- Tasks whose time has come join the end of their queue.
UPDATE tasks
SET status = 'pending', queue_seq = nextval('queue_seq')
FROM (
    SELECT id FROM tasks
    WHERE status = 'scheduled' AND run_after <= now()
    ORDER BY run_after
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
) AS due
WHERE tasks.id = due.id
RETURNING lane, priority, queue_seq;

-- name: next_due
-- Seconds until the next scheduled task is due; null when there is none.
SELECT extract(epoch FROM min(run_after) - now())::float8 FROM tasks WHERE status = 'scheduled';

-- name: queue_depth
SELECT status, count(*)
FROM tasks
WHERE status = 'pending' OR status = 'in_progress' OR status = 'scheduled'
GROUP BY status;
