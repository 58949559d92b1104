-- name: all_lanes
SELECT id, needs FROM lanes;

-- name: add_lanes
-- $1 each lane's needs, joined by a comma (no label has one).
INSERT INTO lanes (needs)
SELECT CASE WHEN joined = '' THEN '{}'::text[] ELSE string_to_array(joined, ',') END
FROM unnest($1::text[]) AS joined
ORDER BY joined
ON CONFLICT (needs) DO NOTHING;
