-- Secrets of tasks, and logs that were cut.

-- Names only, null where there are none: the values are in task_secrets.
ALTER TABLE tasks ADD COLUMN secret_names text[];

-- Encrypted under a key that the database does not have, and bound to the task. Apart from tasks,
-- whose rows are written anew with each of their states.
CREATE TABLE task_secrets (
    task   bigint PRIMARY KEY,
    sealed bytea NOT NULL
);

-- Streams of which the log does not have all: 1 stdout, 2 stderr, as the agent says; 4 stdout,
-- 8 stderr, where the API stored no more.
ALTER TABLE tasks ADD COLUMN cut smallint NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN cut smallint NOT NULL DEFAULT 0;
-- Of a pulled attempt whose log takes no more: when its agent last sent some.
ALTER TABLE tasks ADD COLUMN heard_at timestamptz;
