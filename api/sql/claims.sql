-- name: claim_many
-- $1 lanes, $2 priorities, $3 floors: where to look (see api.floors). $4 one session for each place
-- to be filled, best task first.
-- FOR UPDATE SKIP LOCKED inside each queue: neighbours pass by each other instead of waiting. It
-- locks up to as many rows as there are places in each queue and frees what it does not take: a
-- neighbour can see too little for that moment (see api.claims).
WITH found AS MATERIALIZED (
    SELECT head.id, head.priority, head.queue_seq
    FROM unnest($1::integer[], $2::smallint[], $3::bigint[]) AS queue (lane, priority, floor)
    CROSS JOIN LATERAL (
        SELECT id, priority, queue_seq
        FROM tasks
        WHERE tasks.lane = queue.lane AND tasks.priority = queue.priority
            AND tasks.queue_seq >= queue.floor AND status = 'pending'
        ORDER BY queue_seq
        LIMIT cardinality($4::bigint[])
        FOR UPDATE SKIP LOCKED
    ) AS head
),
picked AS (
    SELECT id, row_number() OVER (ORDER BY priority DESC, queue_seq) AS place
    FROM found
    ORDER BY priority DESC, queue_seq
    LIMIT cardinality($4::bigint[])
)
UPDATE tasks
SET status = 'in_progress',
    session = ($4::bigint[])[picked.place],
    attempt = attempt + 1,
    day = (now() AT TIME ZONE 'UTC')::date,
    started_at = now()
FROM picked
WHERE tasks.id = picked.id
RETURNING picked.place, tasks.lane, tasks.priority, tasks.queue_seq, tasks.id, attempt, day,
    command, env, cwd, timeout_s, exclusive;

-- name: queue_heads
-- Where each queue of the lanes $1 begins, without a floor.
SELECT lanes.lane, priorities.priority, head.queue_seq
FROM unnest($1::integer[]) AS lanes (lane)
CROSS JOIN generate_series(0, 9) AS priorities (priority)
CROSS JOIN LATERAL (
    SELECT queue_seq
    FROM tasks
    WHERE tasks.lane = lanes.lane AND tasks.priority = priorities.priority AND status = 'pending'
    ORDER BY queue_seq
    LIMIT 1
) AS head;

-- name: held_by
-- What a session holds, for its beat.
SELECT id, attempt, day, command, env, cwd, timeout_s, exclusive, cancel_requested
FROM tasks
WHERE session = $1 AND status = 'in_progress'
ORDER BY id;
