-- name: finish_many
-- $1 the numbers of the tasks, $2 one object for each attempt that ended, $3 the crash limit.
-- Fenced by id, attempt, session and state, so that only the attempt that counts can change its
-- task. The session is 0 where the compatible routes claimed. The outcome decides what follows:
--   succeeded, cancelled            the end
--   failed                          again after a pause while attempts are left
--   lost (the machine, at once), unstarted (the machine, after a pause)
--                                   again until the machine lost so many attempts
--   returned                        back to its place in the queue; counts against nothing
-- A cancellation that came before the result leaves nothing to run again.
-- JSON, because asyncpg checks each value that it puts into an array: with thirteen arrays a whole
-- life of a task cost the API 33 us, now 27 (leases were made cheaper at the same time).
WITH result AS (
    SELECT * FROM json_to_recordset($2::json) AS r (
        task bigint, attempt integer, session bigint, outcome text, reason text, exit_code bigint,
        signal smallint, message text, run_s float8, stdout_bytes bigint, stdout_crc bigint,
        stderr_bytes bigint, stderr_crc bigint, cut smallint
    )
),
-- By number alone: where the statistics knew of no task in progress, the planner took the index of
-- what sessions hold for empty and read all of it for each report, dead entries too.
locked AS MATERIALIZED (
    SELECT id, status, attempt, session, started_at, day, cancel_requested, failures, crashes,
        max_attempts, cut, secret_names IS NOT NULL AS secret
    FROM tasks
    WHERE id = ANY ($1::bigint[])
    ORDER BY id
    FOR UPDATE
),
owned AS MATERIALIZED (
    SELECT t.id, t.started_at, t.session, t.day, r.attempt, r.outcome, r.reason, r.exit_code,
        r.signal, r.message, r.run_s, r.stdout_bytes, r.stdout_crc, r.stderr_bytes, r.stderr_crc,
        t.cut | coalesce(r.cut, 0::smallint) AS cut, t.secret,
        CASE
            WHEN r.outcome IN ('succeeded', 'cancelled') THEN r.outcome
            WHEN t.cancel_requested THEN CASE r.outcome WHEN 'failed' THEN 'failed' ELSE 'cancelled' END
            WHEN r.outcome = 'returned' THEN 'pending'
            WHEN r.outcome = 'failed' AND t.failures + 1 < t.max_attempts THEN 'scheduled'
            WHEN r.outcome = 'lost' AND t.crashes + 1 < $3 THEN 'pending'
            WHEN r.outcome = 'unstarted' AND t.crashes + 1 < $3 THEN 'scheduled'
            ELSE 'failed'
        END AS next
    FROM locked AS t
    JOIN result AS r ON r.task = t.id AND r.attempt = t.attempt
    WHERE t.status = 'in_progress' AND coalesce(t.session, 0) = r.session
),
kept AS (
    INSERT INTO attempts (
        task, attempt, session, started_at, finished_at, stdout_bytes, stdout_crc, stderr_bytes,
        stderr_crc, exit_code, day, run_s, signal, cut, reason, message
    )
    SELECT id, attempt, session, started_at, now(), stdout_bytes, stdout_crc, stderr_bytes,
        stderr_crc, exit_code, day, run_s, signal, cut, reason, message
    FROM owned
    WHERE next IN ('pending', 'scheduled')
),
again AS (
    UPDATE tasks AS t
    SET status = o.next,
        queue_seq = CASE
            WHEN o.next = 'pending' AND o.outcome <> 'returned' THEN nextval('queue_seq')
            ELSE t.queue_seq
        END,
        run_after = CASE o.next
            WHEN 'scheduled' THEN now() + make_interval(
                secs => least(300, 2 ^ (t.failures + t.crashes)) * (0.5 + random()))
            ELSE t.run_after
        END,
        failures = t.failures + (o.outcome = 'failed')::integer,
        crashes = t.crashes + (o.outcome IN ('lost', 'unstarted'))::integer,
        session = NULL,
        started_at = NULL,
        cut = 0
    FROM owned AS o
    WHERE t.id = o.id AND o.next IN ('pending', 'scheduled')
    RETURNING t.id, t.attempt, t.status, t.lane, t.priority, t.queue_seq
),
-- Others keep theirs for a retry, as long as their logs.
forgotten AS (
    DELETE FROM task_secrets USING owned
    WHERE owned.secret AND owned.next = 'succeeded' AND task_secrets.task = owned.id
),
ended AS (
    UPDATE tasks AS t
    SET status = o.next,
        reason = CASE o.next WHEN 'cancelled' THEN 'cancelled' ELSE o.reason END,
        exit_code = o.exit_code,
        signal = o.signal,
        message = o.message,
        run_s = o.run_s,
        finished_at = now(),
        stdout_bytes = o.stdout_bytes,
        stdout_crc = o.stdout_crc,
        stderr_bytes = o.stderr_bytes,
        stderr_crc = o.stderr_crc,
        cut = o.cut
    FROM owned AS o
    WHERE t.id = o.id AND o.next NOT IN ('pending', 'scheduled')
    RETURNING t.id, t.attempt, t.status, t.lane, t.priority, t.queue_seq
)
SELECT * FROM again
UNION ALL
SELECT * FROM ended;

-- name: ended_before
-- Of results that finish_many did not take: those that ended with the same attempt, session and
-- reason before, so that a result that is sent again is told from a stale one.
WITH r AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[])
        AS r (id, attempt, session, reason)
)
SELECT r.id, r.attempt
FROM r
JOIN tasks AS t ON t.id = r.id AND t.attempt = r.attempt AND coalesce(t.session, 0) = r.session
    AND t.reason = r.reason AND t.finished_at IS NOT NULL
UNION
SELECT r.id, r.attempt
FROM r
JOIN attempts AS a ON a.task = r.id AND a.attempt = r.attempt
    AND coalesce(a.session, 0) = r.session AND a.reason = r.reason;

-- name: held_by_dead
-- Attempts of sessions that are over. The reaper looks for them again and again: a claim may commit
-- just after its session was marked dead.
SELECT t.id, t.attempt, t.session, s.agent, s.end_reason,
    extract(epoch FROM s.ended_at - s.seen_at)::float8 AS silent_s
FROM tasks AS t
JOIN sessions AS s ON s.id = t.session
WHERE t.status = 'in_progress' AND s.ended_at IS NOT NULL
ORDER BY t.id
LIMIT 1000;

-- name: silent_pulled
-- Attempts of the compatible routes that were claimed, and last heard of, over $1 seconds ago.
SELECT t.id, t.attempt
FROM tasks AS t
WHERE t.status = 'in_progress' AND t.session IS NULL
    AND greatest(t.started_at, t.heard_at) < now() - make_interval(secs => $1)
    AND NOT EXISTS (
        SELECT FROM log_chunks AS c
        WHERE c.day = t.day AND c.task = t.id AND c.attempt = t.attempt
            AND c.received_at > now() - make_interval(secs => $1)
    )
ORDER BY t.id
LIMIT 1000;

-- name: pulled_attempts
-- The attempt that a legacy agent means when it names the task alone: the newest one, as long
-- as the compatible routes claimed it. A task that waits to run again has it in the history: the
-- agent may send its last batch after the status, and the status twice.
SELECT id, attempt, day, status FROM tasks
WHERE id = ANY ($1::bigint[]) AND session IS NULL AND started_at IS NOT NULL
UNION ALL
SELECT t.id, a.attempt, a.day,
    CASE WHEN a.exit_code = 0 THEN 'succeeded' WHEN a.reason = 'cancelled' THEN a.reason ELSE 'failed' END
FROM tasks AS t
JOIN attempts AS a ON a.task = t.id AND a.attempt = t.attempt
WHERE t.id = ANY ($1::bigint[]) AND t.started_at IS NULL AND a.session IS NULL;
