-- name: lease_key
SELECT value FROM keys WHERE name = 'lease';
