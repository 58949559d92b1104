-- name: list_running
-- Tasks that run, the longest first; at most $1.
SELECT id FROM tasks WHERE status = 'in_progress' ORDER BY started_at, id LIMIT $1;

-- name: list_queues
-- The longest queues, at most $2, each counted up to $1; and what could take from each.
SELECT needs, waiting,
    (SELECT count(*) FROM sessions WHERE ended_at IS NULL AND NOT drain AND labels @> needs),
    (SELECT coalesce(sum(slots), 0) FROM sessions
        WHERE ended_at IS NULL AND NOT drain AND labels @> needs)
FROM (
    SELECT lanes.id, lanes.needs, queue.waiting
    FROM lanes
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting
        FROM (SELECT FROM tasks WHERE lane = lanes.id AND status = 'pending' LIMIT $1) AS counted
    ) AS queue
    WHERE queue.waiting > 0
    ORDER BY queue.waiting DESC, lanes.id
    LIMIT $2
) AS longest;

-- name: count_ended
-- What ended since $1, by the minute: `tasks_ended` skips nearly all of the table.
SELECT date_trunc('minute', finished_at), status, count(*)
FROM tasks
WHERE finished_at >= $1 AND status IN ('succeeded', 'failed', 'cancelled')
GROUP BY 1, 2;

-- name: list_groups
-- Groups by their newest task, below the cursor $1 (null: all); at most $3. It looks at $2 numbers,
-- and says down to which: where tasks without a group lie between, the next page goes on there.
-- $4: the reasons that blame a machine.
WITH top AS MATERIALIZED (SELECT coalesce($1, max(id) + 1, 1) AS below FROM tasks),
recent AS (
    SELECT group_name, max(id) AS newest
    FROM tasks
    WHERE id < (SELECT below FROM top) AND id >= (SELECT below FROM top) - $2
        AND group_name IS NOT NULL
    GROUP BY group_name
    HAVING NOT EXISTS (
        SELECT FROM tasks AS newer
        WHERE newer.group_name = tasks.group_name AND newer.id >= (SELECT below FROM top)
    )
    ORDER BY newest DESC
    LIMIT $3
)
SELECT recent.group_name, recent.newest, top.below - $2 AS seen_down_to, member.*
FROM top
LEFT JOIN recent ON true
CROSS JOIN LATERAL (
    SELECT min(submitted_at) AS submitted_at, max(finished_at) AS finished_at,
        count(*) FILTER (WHERE status = 'pending') AS pending,
        count(*) FILTER (WHERE status = 'scheduled') AS scheduled,
        count(*) FILTER (WHERE status = 'in_progress') AS in_progress,
        count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE status = 'failed' AND reason = ANY ($4::text[])) AS infrastructure
    FROM tasks
    WHERE group_name = recent.group_name
) AS member
ORDER BY recent.newest DESC;

-- name: list_slowest
-- Of a group, at most $2.
SELECT id FROM tasks WHERE group_name = $1 AND run_s IS NOT NULL ORDER BY run_s DESC, id LIMIT $2;

-- name: list_members
-- Those of a group above $2 that have one of the states $3, in order of their numbers; at most $4.
SELECT id
FROM tasks
WHERE group_name = $1 AND id > $2 AND status = ANY ($3::text[])
ORDER BY id
LIMIT $4;

-- name: list_agents
-- Who lives, by name; at most $1.
SELECT id, agent, labels, slots, version, drain, opened_at, seen_at,
    (SELECT count(*) FROM tasks WHERE session = sessions.id AND status = 'in_progress') AS running
FROM sessions
WHERE ended_at IS NULL
ORDER BY agent, id
LIMIT $1;

-- name: list_held
-- What these sessions run, the longest first, at most $2 of each.
SELECT session, id, called, started_at
FROM (
    SELECT session, id, coalesce(name, left(command, 200)) AS called, started_at,
        row_number() OVER (PARTITION BY session ORDER BY started_at, id) AS place
    FROM tasks
    WHERE session = ANY ($1::bigint[]) AND status = 'in_progress'
) AS held
WHERE place <= $2
ORDER BY session, place;

-- name: list_gone
-- Who ended within a day, newest first; at most $1.
SELECT agent, end_reason, opened_at, ended_at
FROM sessions
WHERE ended_at > now() - interval '1 day'
ORDER BY ended_at DESC
LIMIT $1;

-- name: count_slots
-- Agents that live, their slots, and how many of them drain.
SELECT count(*), coalesce(sum(slots), 0), count(*) FILTER (WHERE drain)
FROM sessions
WHERE ended_at IS NULL;
