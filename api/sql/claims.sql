-- name: claim_many
-- $1 lanes, $2 one session for each place to be filled, best task first.
-- FOR UPDATE SKIP LOCKED inside each lane: neighbours pass by each other instead of waiting.
-- Locks up to as many rows as there are places in each lane and frees what it does not take: a
-- neighbour can see too little for that moment (see api.claims).
WITH found AS MATERIALIZED (
    SELECT head.id, head.priority, head.queue_seq
    FROM unnest($1::integer[]) AS lanes (lane)
    CROSS JOIN LATERAL (
        SELECT id, priority, queue_seq
        FROM tasks
        WHERE tasks.lane = lanes.lane AND status = 'pending'
        ORDER BY priority DESC, queue_seq
        LIMIT cardinality($2::bigint[])
        FOR UPDATE SKIP LOCKED
    ) AS head
),
picked AS (
    SELECT id, row_number() OVER (ORDER BY priority DESC, queue_seq) AS place
    FROM found
    ORDER BY priority DESC, queue_seq
    LIMIT cardinality($2::bigint[])
)
UPDATE tasks
SET status = 'in_progress',
    session = ($2::bigint[])[picked.place],
    attempt = attempt + 1,
    day = (now() AT TIME ZONE 'UTC')::date,
    started_at = now()
FROM picked
WHERE tasks.id = picked.id
RETURNING picked.place, tasks.id, attempt, day, command, env, cwd, timeout_s, exclusive;

-- name: held_by
-- What a session holds, for its beat.
SELECT id, attempt, day, command, env, cwd, timeout_s, exclusive, cancel_requested
FROM tasks
WHERE session = $1 AND status = 'in_progress'
ORDER BY id;
