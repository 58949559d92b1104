-- One row for each name of a group that was ever used, so that groups can be listed: the names
-- among millions of tasks would have to be searched for. Written by the submission that brings a
-- new name, and never changed: counts are counted, a row that all tasks of a group update would be
-- a queue of its own.
CREATE TABLE groups (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
);
INSERT INTO groups (name)
SELECT group_name FROM tasks WHERE group_name IS NOT NULL GROUP BY group_name ORDER BY min(id);
