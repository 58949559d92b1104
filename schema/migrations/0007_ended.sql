-- What ended in the last hour, for people who look at it.

-- It names ranges of blocks, and nearly all of them hold nothing that ended lately. A B-tree on the
-- time would be one more entry for each task that ends; this is a few hundred bytes in all. Partial,
-- so that only statements for it can use it: kept plans that were made while tables were empty
-- would read it for `finished_at IS NOT NULL`, and with it the whole table.
CREATE INDEX tasks_ended ON tasks USING brin (finished_at)
    WITH (pages_per_range = 32, autosummarize = on)
    WHERE status IN ('succeeded', 'failed', 'cancelled');
