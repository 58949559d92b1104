-- name: look_many
-- What watched tasks are now, and of the attempt $2, claimed on the day $6, the chunks behind the
-- positions $3 (stdout) and $4 (stderr), without their content. At most $5 of each stream.
-- One day for all, so that the planner need not look at thirty other partitions: 2 ms each time.
SELECT t.id, t.status, t.attempt, s.agent, t.cancel_requested, t.reason, t.run_after, t.started_at,
    t.session, t.exit_code, t.signal, t.message, t.finished_at, t.run_s,
    extract(epoch FROM now() - t.finished_at)::float8 AS over_s,
    stdout.positions, stdout.sizes, stdout.lines, stderr.positions, stderr.sizes, stderr.lines
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[])
    AS w (task, attempt, stdout, stderr)
JOIN tasks AS t ON t.id = w.task
LEFT JOIN sessions AS s ON s.id = t.session
CROSS JOIN LATERAL (
    SELECT array_agg(position) AS positions, array_agg(size) AS sizes, array_agg(lines) AS lines
    FROM (
        SELECT position, size, lines
        FROM log_chunks AS c
        WHERE c.day = $6 AND c.task = t.id AND c.attempt = t.attempt AND c.stream = 1
            AND c.position > w.stdout AND w.attempt = t.attempt
        ORDER BY position
        LIMIT $5
    ) AS new
) AS stdout
CROSS JOIN LATERAL (
    SELECT array_agg(position) AS positions, array_agg(size) AS sizes, array_agg(lines) AS lines
    FROM (
        SELECT position, size, lines
        FROM log_chunks AS c
        WHERE c.day = $6 AND c.task = t.id AND c.attempt = t.attempt AND c.stream = 2
            AND c.position > w.stderr AND w.attempt = t.attempt
        ORDER BY position
        LIMIT $5
    ) AS new
) AS stderr;

-- name: read_many
-- Chunks of one day that somebody looks at.
SELECT c.day, c.task, c.attempt, c.stream, c.position, c.size, c.lines, c.marks, c.content,
    (extract(epoch FROM c.received_at) * 1000000)::bigint
FROM unnest($2::bigint[], $3::integer[], $4::smallint[], $5::bigint[])
    AS p (task, attempt, stream, position)
JOIN log_chunks AS c USING (task, attempt, stream, position)
WHERE c.day = $1;

-- name: group_members
-- Tasks of a group by number, above $2, at most $3.
SELECT id, status, attempt, cancel_requested
FROM tasks
WHERE group_name = $1 AND id > $2
ORDER BY id
LIMIT $3;
