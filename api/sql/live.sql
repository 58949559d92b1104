-- name: group_members
-- Tasks of a group by number, above $2, at most $3.
SELECT id, status, attempt, cancel_requested
FROM tasks
WHERE group_name = $1 AND id > $2
ORDER BY id
LIMIT $3;
