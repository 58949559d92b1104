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
