-- name: merge_chunks
-- The careful path, for chunks that may be stored already. Gives the places that were stored now.
INSERT INTO log_chunks (day, task, attempt, stream, position, size, lines, crc, marks, content)
SELECT day, task, attempt, stream, position, size, lines, crc, marks, content
FROM unnest(
    $1::date[], $2::bigint[], $3::integer[], $4::smallint[], $5::bigint[], $6::integer[],
    $7::integer[], $8::bigint[], $9::bytea[], $10::bytea[]
) WITH ORDINALITY AS c (
    day, task, attempt, stream, position, size, lines, crc, marks, content, place
)
ORDER BY day, task, attempt, stream, position, place
ON CONFLICT DO NOTHING
RETURNING day, task, attempt, stream, position;

-- name: stored_sizes
-- What stands at these places, to tell a chunk that was sent again from a conflict.
SELECT c.day, c.task, c.attempt, c.stream, c.position, c.size, c.crc
FROM unnest($1::date[], $2::bigint[], $3::integer[], $4::smallint[], $5::bigint[])
    AS p (day, task, attempt, stream, position)
JOIN log_chunks AS c USING (day, task, attempt, stream, position);

-- name: attempt_place
-- Where the chunks of an attempt are, and what its result declared. $2 null: the newest attempt.
-- A task that waits to run again has its newest attempt in the history already.
SELECT attempt, day, session IS NULL AS pulled, finished_at IS NOT NULL AS ended, started_at,
    stdout_bytes, stdout_crc, stderr_bytes, stderr_crc, cut
FROM tasks
WHERE id = $1 AND started_at IS NOT NULL AND ($2::integer IS NULL OR attempt = $2)
UNION ALL
SELECT attempt, day, session IS NULL, true, started_at, stdout_bytes, stdout_crc, stderr_bytes,
    stderr_crc, cut
FROM attempts
WHERE task = $1
    AND attempt = coalesce($2, (SELECT attempt FROM tasks WHERE id = $1 AND started_at IS NULL));

-- name: mark_cut
-- Attempts $1, $2 of whose streams $3 no more is stored. In order of their numbers, as every
-- statement that locks several tasks.
WITH cut AS (
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::smallint[]) AS c (task, attempt, streams)
),
superseded AS (
    UPDATE attempts AS a SET cut = a.cut | cut.streams
    FROM cut WHERE a.task = cut.task AND a.attempt = cut.attempt
)
UPDATE tasks AS t SET cut = t.cut | locked.streams, heard_at = now()
FROM (
    SELECT tasks.id, cut.streams
    FROM tasks JOIN cut ON tasks.id = cut.task AND tasks.attempt = cut.attempt
    WHERE tasks.started_at IS NOT NULL
    ORDER BY tasks.id
    FOR UPDATE OF tasks
) AS locked
WHERE t.id = locked.id;

-- name: stored_bytes
-- Of an attempt, both streams.
SELECT coalesce(sum(size), 0)::bigint FROM log_chunks WHERE day = $1 AND task = $2 AND attempt = $3;

-- name: list_extents
-- All chunks of one stream without their content, one value for each column.
SELECT
    string_agg(int8send(position), '' ORDER BY position),
    string_agg(int4send(size), '' ORDER BY position),
    string_agg(int4send(lines), '' ORDER BY position),
    string_agg(int8send(crc), '' ORDER BY position)
FROM log_chunks
WHERE day = $1 AND task = $2 AND attempt = $3 AND stream = $4;

-- name: list_times
-- The beginning of each chunk's marks, which has the time of its first byte, and when it came.
SELECT substring(marks FROM 1 FOR 12), (extract(epoch FROM received_at) * 1000000)::bigint
FROM log_chunks
WHERE day = $1 AND task = $2 AND attempt = $3 AND stream = $4
ORDER BY position
LIMIT $5;

-- name: read_chunks
-- The next few chunks of one stream from a position on.
SELECT position, size, lines, marks, content,
    (extract(epoch FROM received_at) * 1000000)::bigint AS received_us
FROM log_chunks
WHERE day = $1 AND task = $2 AND attempt = $3 AND stream = $4 AND position >= $5
ORDER BY position
LIMIT $6;

-- name: list_partitions
-- Also those that an interrupted drop left half detached, or detached and not dropped.
SELECT c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') AS day, i.inhparent IS NOT NULL,
    coalesce(i.inhdetachpending, false)
FROM pg_class AS c
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid AND i.inhparent = 'log_chunks'::regclass
WHERE c.relkind = 'r' AND c.relname ~ '^log_chunks_[0-9]{8}$'
    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'log_chunks'::regclass)
ORDER BY day;

-- name: today
SELECT (now() AT TIME ZONE 'UTC')::date;
