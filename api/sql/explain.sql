-- name: find_task
-- The task as far as it decides who may take it when, and how its newest attempt ended.
SELECT t.status, t.attempt, t.reason, t.run_after, t.started_at, t.finished_at, t.cancel_requested,
    t.lane, t.priority, t.queue_seq, l.needs, s.agent, a.reason AS last_reason, a.exit_code,
    a.signal
FROM tasks AS t
JOIN lanes AS l ON l.id = t.lane
LEFT JOIN sessions AS s ON s.id = t.session
LEFT JOIN attempts AS a ON a.task = t.id AND a.attempt = t.attempt
WHERE t.id = $1;

-- name: list_takers
-- Live agents that have all labels $1, and what they run; at most $2.
SELECT s.agent, s.slots, s.drain, held.running, held.free_by
FROM sessions AS s
CROSS JOIN LATERAL (
    SELECT count(*) AS running, min(started_at + make_interval(secs => timeout_s)) AS free_by
    FROM tasks
    WHERE session = s.id AND status = 'in_progress'
) AS held
WHERE s.ended_at IS NULL AND s.labels @> $1::text[]
ORDER BY s.id
LIMIT $2;

-- name: list_nearest
-- How many agents live, which of the labels $1 none of them has, and the $2 that lack the fewest.
WITH live AS MATERIALIZED (
    SELECT agent, ARRAY(SELECT unnest($1::text[]) EXCEPT SELECT unnest(labels) ORDER BY 1) AS missing
    FROM sessions
    WHERE ended_at IS NULL
)
SELECT
    (SELECT count(*) FROM live),
    ARRAY(
        SELECT label FROM unnest($1::text[]) AS label
        WHERE NOT EXISTS (SELECT FROM live WHERE NOT label = ANY (missing))
        ORDER BY label
    ),
    ARRAY(SELECT agent FROM live ORDER BY cardinality(missing), agent LIMIT $2),
    (SELECT json_agg(missing) FROM (
        SELECT missing FROM live ORDER BY cardinality(missing), agent LIMIT $2
    ) AS nearest);

-- name: count_ahead
-- Pending tasks of the lane $1 that are claimed before priority $2 and place $3; counted up to $4.
SELECT count(*)
FROM (
    (
        SELECT FROM tasks
        WHERE lane = $1 AND status = 'pending' AND priority > $2
        ORDER BY priority DESC, queue_seq
        LIMIT $4
    )
    UNION ALL
    (
        SELECT FROM tasks
        WHERE lane = $1 AND status = 'pending' AND priority = $2 AND queue_seq < $3
        ORDER BY queue_seq
        LIMIT $4
    )
    LIMIT $4
) AS ahead;
