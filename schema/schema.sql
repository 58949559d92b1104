-- What the migrations make of an empty database, by pg_dump. Made by `just schema`: do not edit.
-- tests/store/test_migrations.py demands that it is up to date.

CREATE FUNCTION public.audit_stays() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$;

CREATE TABLE public.attempts (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    session bigint,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    stdout_bytes bigint,
    stdout_crc bigint,
    stderr_bytes bigint,
    stderr_crc bigint,
    exit_code bigint,
    day date NOT NULL,
    run_s double precision,
    signal smallint,
    reason text NOT NULL,
    message text,
    cut smallint DEFAULT 0 NOT NULL
);

CREATE TABLE public.audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    task bigint,
    tasks integer,
    who text NOT NULL,
    action text NOT NULL,
    about text
);

ALTER TABLE public.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.groups (
    id bigint NOT NULL,
    name text NOT NULL
);

ALTER TABLE public.groups ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.groups_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.keys (
    name text NOT NULL,
    value bytea NOT NULL
);

CREATE TABLE public.lanes (
    id integer NOT NULL,
    needs text[] NOT NULL
);

ALTER TABLE public.lanes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.lanes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.log_chunks (
    task bigint NOT NULL,
    "position" bigint NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    crc bigint NOT NULL,
    day date NOT NULL,
    attempt integer NOT NULL,
    size integer NOT NULL,
    lines integer NOT NULL,
    stream smallint NOT NULL,
    marks bytea NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT log_chunks_stream_check CHECK ((stream = ANY (ARRAY[1, 2])))
)
PARTITION BY RANGE (day);

ALTER TABLE ONLY public.log_chunks ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE SEQUENCE public.queue_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.sessions (
    id bigint NOT NULL,
    digest bytea NOT NULL,
    agent text NOT NULL,
    labels text[] NOT NULL,
    slots integer NOT NULL,
    version text NOT NULL,
    drain boolean DEFAULT false NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    end_reason text,
    token text,
    CONSTRAINT sessions_check CHECK (((ended_at IS NULL) = (end_reason IS NULL))),
    CONSTRAINT sessions_end_reason_check CHECK ((end_reason = ANY (ARRAY['closed'::text, 'replaced'::text, 'lost'::text, 'revoked'::text])))
)
WITH (fillfactor='50');

ALTER TABLE public.sessions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.sessions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.task_secrets (
    task bigint NOT NULL,
    sealed bytea NOT NULL
);

CREATE TABLE public.tasks (
    id bigint NOT NULL,
    queue_seq bigint DEFAULT nextval('public.queue_seq'::regclass) NOT NULL,
    session bigint,
    submitted_at timestamp with time zone DEFAULT now() NOT NULL,
    run_after timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    stdout_bytes bigint,
    stdout_crc bigint,
    stderr_bytes bigint,
    stderr_crc bigint,
    exit_code bigint,
    lane integer NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    day date,
    run_s double precision,
    timeout_s double precision,
    signal smallint,
    priority smallint NOT NULL,
    max_attempts smallint NOT NULL,
    failures smallint DEFAULT 0 NOT NULL,
    crashes smallint DEFAULT 0 NOT NULL,
    exclusive boolean NOT NULL,
    cancel_requested boolean DEFAULT false NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    reason text,
    command text NOT NULL,
    name text,
    group_name text,
    cwd text,
    message text,
    key text,
    key_digest bytea,
    env jsonb,
    no_output_timeout_s double precision,
    isolation text,
    image text,
    secret_names text[],
    cut smallint DEFAULT 0 NOT NULL,
    heard_at timestamp with time zone,
    CONSTRAINT tasks_check CHECK (((finished_at IS NOT NULL) = (status = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text])))),
    CONSTRAINT tasks_check1 CHECK (((status <> 'in_progress'::text) OR ((started_at IS NOT NULL) AND (day IS NOT NULL)))),
    CONSTRAINT tasks_check2 CHECK (((status <> 'scheduled'::text) OR (run_after IS NOT NULL))),
    CONSTRAINT tasks_check3 CHECK (((key IS NULL) = (key_digest IS NULL))),
    CONSTRAINT tasks_isolation_check CHECK ((isolation = ANY (ARRAY['bwrap'::text, 'docker'::text]))),
    CONSTRAINT tasks_max_attempts_check CHECK (((max_attempts >= 1) AND (max_attempts <= 100))),
    CONSTRAINT tasks_priority_check CHECK (((priority >= 0) AND (priority <= 9))),
    CONSTRAINT tasks_reason_check CHECK ((reason = ANY (ARRAY['exit'::text, 'signal'::text, 'timeout'::text, 'cancelled'::text, 'agent_lost'::text, 'spawn_error'::text, 'returned'::text]))),
    CONSTRAINT tasks_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'scheduled'::text, 'in_progress'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0.02');

ALTER TABLE public.tasks ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.tasks_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.tokens (
    id bigint NOT NULL,
    digest bytea NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by text NOT NULL,
    used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT tokens_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT tokens_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'submit'::text, 'read'::text, 'agent'::text])))
)
WITH (fillfactor='70');

ALTER TABLE public.tokens ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.tokens_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (task, attempt);

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_name_key UNIQUE (name);

ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.lanes
    ADD CONSTRAINT lanes_needs_key UNIQUE (needs);

ALTER TABLE ONLY public.lanes
    ADD CONSTRAINT lanes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.log_chunks
    ADD CONSTRAINT log_chunks_pkey PRIMARY KEY (day, task, attempt, stream, "position");

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_digest_key UNIQUE (digest);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.task_secrets
    ADD CONSTRAINT task_secrets_pkey PRIMARY KEY (task);

ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_digest_key UNIQUE (digest);

ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (id);

CREATE INDEX audit_submitted ON public.audit USING btree (who, id) WHERE (action = 'tasks submitted'::text);

CREATE INDEX sessions_alive ON public.sessions USING btree (id) WHERE (ended_at IS NULL);

CREATE INDEX sessions_token ON public.sessions USING btree (token) WHERE ((ended_at IS NULL) AND (token IS NOT NULL));

CREATE INDEX tasks_due ON public.tasks USING btree (run_after) WHERE (status = 'scheduled'::text);

CREATE INDEX tasks_ended ON public.tasks USING brin (finished_at) WITH (pages_per_range='32', autosummarize='on') WHERE (status = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text]));

CREATE INDEX tasks_failed ON public.tasks USING btree (id) WHERE (status = 'failed'::text);

CREATE INDEX tasks_group ON public.tasks USING btree (group_name, id) WHERE (group_name IS NOT NULL);

CREATE INDEX tasks_held ON public.tasks USING btree (session) WHERE (status = 'in_progress'::text);

CREATE UNIQUE INDEX tasks_key ON public.tasks USING btree (key) WHERE (key IS NOT NULL);

CREATE INDEX tasks_name ON public.tasks USING btree (name, id) WHERE (name IS NOT NULL);

CREATE INDEX tasks_queue ON public.tasks USING btree (lane, priority DESC, queue_seq) WHERE (status = 'pending'::text);

CREATE INDEX tokens_changed ON public.tokens USING btree (COALESCE(revoked_at, created_at));

CREATE UNIQUE INDEX tokens_name ON public.tokens USING btree (name) WHERE (revoked_at IS NULL);

CREATE TRIGGER audit_no_delete BEFORE DELETE ON public.audit FOR EACH ROW WHEN ((old.at > (now() - '23:00:00'::interval))) EXECUTE FUNCTION public.audit_stays();

CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON public.audit FOR EACH STATEMENT EXECUTE FUNCTION public.audit_stays();

CREATE TRIGGER audit_no_update BEFORE UPDATE ON public.audit FOR EACH ROW EXECUTE FUNCTION public.audit_stays();
