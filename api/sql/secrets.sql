-- name: put_many
INSERT INTO task_secrets (task, sealed) SELECT * FROM unnest($1::bigint[], $2::bytea[]);

-- name: get_many
SELECT task, sealed FROM task_secrets WHERE task = ANY ($1::bigint[]);

-- name: drop_expired
-- Of tasks that ended over $1 days ago and were not run again; at most 1,000.
DELETE FROM task_secrets
USING (
    SELECT task
    FROM task_secrets JOIN tasks ON tasks.id = task
    WHERE finished_at < now() - make_interval(days => $1)
    LIMIT 1000
) AS expired
WHERE task_secrets.task = expired.task
RETURNING task_secrets.task;
