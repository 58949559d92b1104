-- name: claim_many
-- $1 lanes, $2 priorities, $3 floors: the queues to look at (see api.floors). $4 one session for
-- each place to be filled, best task first. $5 bytes: where the tasks have more than that, only the
-- first $6 are taken. The others were locked and stay pending: neighbours may have passed by them.
-- To count the bytes takes 1 to 3 % of this statement's processor time. To take as many as fit, by a
-- window over their sizes, took 13 % (16 rows) to 19 % (one) though it had nothing to do: a plan
-- with more nodes is longer in starting.
-- Of several queues a look without locks tells how many to take from each; then so many are locked
-- there, and all that are locked are taken: a row that was locked and freed again would be passed
-- over by a neighbour, who then raises its floor above it. (It also cost 70 to 130 ms for 256 places
-- over 200 queues to lock 256 rows in each.) FOR UPDATE SKIP LOCKED: neighbours pass by each other
-- instead of waiting.
-- The numbers go to the UPDATE as one array, so that its plan is the primary key's index even where
-- the planner knows nothing of the arguments: planning for the arguments took 350 of 750 us of a
-- claim of 16 rows, and joining `picked` instead read all tasks in the plan that is kept.
WITH shares AS MATERIALIZED (
    SELECT ($1::integer[])[1] AS lane, ($2::smallint[])[1] AS priority, ($3::bigint[])[1] AS floor,
        cardinality($4::bigint[])::bigint AS places
    WHERE cardinality($1::integer[]) = 1
    UNION ALL
    SELECT lane, priority, floor, count(*)
    FROM (
        SELECT queue.lane, queue.priority, queue.floor
        FROM unnest($1::integer[], $2::smallint[], $3::bigint[]) AS queue (lane, priority, floor)
        CROSS JOIN LATERAL (
            SELECT queue_seq
            FROM tasks
            WHERE tasks.lane = queue.lane AND tasks.priority = queue.priority
                AND tasks.queue_seq >= queue.floor AND status = 'pending'
            ORDER BY queue_seq
            LIMIT cardinality($4::bigint[])
        ) AS head
        WHERE cardinality($1::integer[]) > 1
        ORDER BY queue.priority DESC, head.queue_seq
        LIMIT cardinality($4::bigint[])
    ) AS best
    GROUP BY lane, priority, floor
),
picked AS MATERIALIZED (
    SELECT (array_agg(task.id ORDER BY task.priority DESC, task.queue_seq))[
        : CASE WHEN sum(task.bytes) <= $5::bigint THEN cardinality($4::bigint[]) ELSE $6::integer END
    ] AS ids
    FROM shares
    CROSS JOIN LATERAL (
        SELECT id, priority, queue_seq, octet_length(command)
            + coalesce(octet_length(env::text), 0)
            + CASE WHEN secret_names IS NULL THEN 0 ELSE 65536 END AS bytes
        FROM tasks
        WHERE tasks.lane = shares.lane AND tasks.priority = shares.priority
            AND tasks.queue_seq >= shares.floor AND status = 'pending'
        ORDER BY queue_seq
        LIMIT shares.places
        FOR UPDATE SKIP LOCKED
    ) AS task
)
UPDATE tasks
SET status = 'in_progress',
    session = ($4::bigint[])[array_position((SELECT ids FROM picked), id)],
    attempt = attempt + 1,
    day = (now() AT TIME ZONE 'UTC')::date,
    started_at = now()
WHERE id = ANY ((SELECT ids FROM picked)::bigint[])
RETURNING array_position((SELECT ids FROM picked), id) - 1 AS place, lane, priority, queue_seq, id,
    attempt, day, command, env, cwd, timeout_s, no_output_timeout_s, exclusive,
    secret_names IS NOT NULL, isolation, image;

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

-- name: held_by_many
-- What sessions hold, for their beats, and a row of nulls for each session that shall drain. By
-- number: most beats only compare. With their commands, 10,000 tasks took 331 ms where those have
-- 4 KB, now 20, and 30 ms where they have 100 bytes, now 14. In no order: one by id made the planner
-- walk all ids.
SELECT session, id, attempt, cancel_requested
FROM tasks
WHERE session = ANY ($1::bigint[]) AND status = 'in_progress'
UNION ALL
SELECT id, NULL, NULL, NULL
FROM sessions
WHERE id = ANY ($1::bigint[]) AND drain;

-- name: redeliver
-- Of the tasks $2 those that session $1 holds: its agent did not name them. In their order, up to
-- the one that brings their sum to $3 bytes: the next comparison finds the others.
SELECT id, attempt, day, command, env, cwd, timeout_s, no_output_timeout_s, exclusive,
    secret_names IS NOT NULL, isolation, image
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY id) - bytes AS before
    FROM (
        SELECT *, octet_length(command) + coalesce(octet_length(env::text), 0)
            + CASE WHEN secret_names IS NULL THEN 0 ELSE 65536 END AS bytes
        FROM tasks
        WHERE id = ANY ($2::bigint[]) AND session = $1 AND status = 'in_progress'
    ) AS sized
) AS held
WHERE before < $3::bigint
ORDER BY id;
