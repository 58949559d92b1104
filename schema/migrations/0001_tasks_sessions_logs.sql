-- Tasks, who runs them, and what they wrote.

-- Keys that the servers of one database share. lease signs leases: 244 random bits.
CREATE TABLE keys (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);
INSERT INTO keys (name, value)
VALUES ('lease', decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- A lane is the set of tasks with the same needs. An agent's labels select its lanes, so that a
-- claim never reads a task that the agent cannot run. Lanes are few and never deleted.
CREATE TABLE lanes (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    needs text[] NOT NULL UNIQUE  -- sorted, each once
);

-- One life of an agent. seen_at is the only column that changes while it lives, and it is in no
-- index: with room in the page the update stays in place (HOT).
CREATE TABLE sessions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     bytea NOT NULL UNIQUE,  -- SHA-256 of the id that the agent keeps secret
    agent      text NOT NULL,
    labels     text[] NOT NULL,
    slots      integer NOT NULL,
    version    text NOT NULL,
    drain      boolean NOT NULL DEFAULT false,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    end_reason text CHECK (end_reason IN ('closed', 'replaced', 'lost')),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) WITH (fillfactor = 50);
CREATE INDEX sessions_alive ON sessions (id) WHERE ended_at IS NULL;

CREATE SEQUENCE queue_seq;

-- One row a task, its state in it. No foreign keys: a check of lanes would lock one lane row for
-- each inserted task, and lanes and sessions that tasks name are never deleted.
CREATE TABLE tasks (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_seq        bigint NOT NULL DEFAULT nextval('queue_seq'),
    session          bigint,  -- of the newest attempt; null where the compatible routes claimed
    submitted_at     timestamptz NOT NULL DEFAULT now(),
    run_after        timestamptz,
    started_at       timestamptz,
    finished_at      timestamptz,
    stdout_bytes     bigint,  -- declared by the result, as the three below
    stdout_crc       bigint,
    stderr_bytes     bigint,
    stderr_crc       bigint,
    exit_code        bigint,
    lane             integer NOT NULL,
    attempt          integer NOT NULL DEFAULT 0,
    day              date,  -- UTC day of the newest claim: where its log chunks are
    run_s            double precision,
    timeout_s        double precision,
    signal           smallint,
    priority         smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    max_attempts     smallint NOT NULL CHECK (max_attempts BETWEEN 1 AND 100),
    failures         smallint NOT NULL DEFAULT 0,  -- attempts that the command itself failed
    crashes          smallint NOT NULL DEFAULT 0,  -- attempts that the machine lost
    exclusive        boolean NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false,
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN
        ('pending', 'scheduled', 'in_progress', 'succeeded', 'failed', 'cancelled')),
    reason           text CHECK (reason IN
        ('exit', 'signal', 'timeout', 'cancelled', 'agent_lost', 'spawn_error', 'returned')),
    command          text NOT NULL,
    name             text,
    group_name       text,
    cwd              text,
    message          text,
    key              text,
    key_digest       bytea,  -- SHA-256 of the submission that brought the key
    env              jsonb,
    CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled'))),
    CHECK (status <> 'in_progress' OR (started_at IS NOT NULL AND day IS NOT NULL)),
    CHECK (status <> 'scheduled' OR run_after IS NOT NULL),
    CHECK ((key IS NULL) = (key_digest IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

-- The order of claims.
CREATE INDEX tasks_queue ON tasks (lane, priority DESC, queue_seq) WHERE status = 'pending';
-- What the sessions hold: beats compare with it, the reaper walks it.
CREATE INDEX tasks_held ON tasks (session) WHERE status = 'in_progress';
CREATE INDEX tasks_due ON tasks (run_after) WHERE status = 'scheduled';
CREATE INDEX tasks_group ON tasks (group_name, id) WHERE group_name IS NOT NULL;
CREATE INDEX tasks_name ON tasks (name, id) WHERE name IS NOT NULL;
CREATE INDEX tasks_failed ON tasks (id) WHERE status = 'failed';
CREATE UNIQUE INDEX tasks_key ON tasks (key) WHERE key IS NOT NULL;

-- Attempts that a newer one superseded. A task that never runs again writes nothing here.
CREATE TABLE attempts (
    task         bigint NOT NULL,
    attempt      integer NOT NULL,
    session      bigint,
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz NOT NULL,
    stdout_bytes bigint,
    stdout_crc   bigint,
    stderr_bytes bigint,
    stderr_crc   bigint,
    exit_code    bigint,
    day          date NOT NULL,
    run_s        double precision,
    signal       smallint,
    reason       text NOT NULL,
    message      text,
    PRIMARY KEY (task, attempt)
);

-- What attempts wrote, as the agents sent it: one gzip member a row. EXTERNAL keeps TOAST from
-- trying to compress it once more. One partition a day (of
-- the claim, so that an attempt stays in one), dropped whole by retention.
CREATE TABLE log_chunks (
    task        bigint NOT NULL,
    position    bigint NOT NULL,  -- first byte in the stream; the batch index where lines came in
    received_at timestamptz NOT NULL DEFAULT now(),
    crc         bigint NOT NULL,
    day         date NOT NULL,
    attempt     integer NOT NULL,
    size        integer NOT NULL,  -- bytes, inflated
    lines       integer NOT NULL,  -- newline bytes
    stream      smallint NOT NULL CHECK (stream IN (1, 2)),  -- stdout, stderr
    marks       bytea NOT NULL,
    content     bytea NOT NULL,
    PRIMARY KEY (day, task, attempt, stream, position)
) PARTITION BY RANGE (day);
ALTER TABLE log_chunks ALTER COLUMN content SET STORAGE EXTERNAL;
