-- What a task asks for between itself and its machine; null: nothing, or no image of its own. The
-- agents that can give it are found by a label among its needs.

ALTER TABLE tasks
    ADD COLUMN isolation text CHECK (isolation IN ('bwrap', 'docker')),
    ADD COLUMN image text;
