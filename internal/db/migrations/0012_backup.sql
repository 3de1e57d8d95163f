-- What was backed up, and what a restore of it has proven. Owner: package
-- backup. All of it is about the installation as a whole: no table names an
-- organisation, and none holds anything that belongs to one. The reader sees
-- them by default.

-- Rows that are written only to be found again after a restore: every ten
-- seconds and around every backup. Ids have no gaps, so that a lost row shows.
CREATE TABLE backup_sentinels (
    id       bigint PRIMARY KEY CHECK (id > 0),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    wal_lsn  pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
    nonce    bytea NOT NULL CHECK (length(nonce) = 16)
);
GRANT SELECT, INSERT, DELETE ON backup_sentinels TO foundry_app;

-- How many rows each table had, noted around every backup: what a restored
-- copy's counts are compared with.
CREATE TABLE backup_notes (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at        timestamptz NOT NULL,                 -- when the count began
    until_at  timestamptz NOT NULL,                 -- and ended
    wal_lsn   pg_lsn NOT NULL,
    counts    jsonb NOT NULL,                       -- table → rows
    grows     text[] NOT NULL                       -- tables from which no role may delete
);
GRANT SELECT, INSERT, DELETE ON backup_notes TO foundry_app;

-- One piece of work on one subject at one target.
CREATE TABLE backup_runs (
    id          uuid PRIMARY KEY,                   -- version 7: in order of time
    job         uuid NOT NULL,                      -- what was asked for once
    kind        text NOT NULL CHECK (kind IN ('backup', 'drill', 'verify', 'expire')),
    subject     text NOT NULL CHECK (subject IN ('database', 'files', 'mirrors')),
    target      text NOT NULL,
    engine      text NOT NULL,
    type        text NOT NULL DEFAULT '',
    state       text NOT NULL CHECK (state IN ('running', 'done', 'failed', 'interrupted')),
    actor       text NOT NULL,
    scheduled   boolean NOT NULL,
    node        bigint NOT NULL,
    boot        bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    heard_at    timestamptz NOT NULL DEFAULT now(), -- when it last said something
    ended_at    timestamptz,
    done        bigint NOT NULL DEFAULT 0,
    total       bigint NOT NULL DEFAULT 0,
    what        text NOT NULL DEFAULT '',
    label       text NOT NULL DEFAULT '',
    bytes       bigint NOT NULL DEFAULT 0,
    code        text NOT NULL DEFAULT '',
    reason      text NOT NULL DEFAULT '',
    mend        text NOT NULL DEFAULT '',
    drill       uuid,
    gone        text[] NOT NULL DEFAULT '{}',
    kept        text[] NOT NULL DEFAULT '{}',
    dry_run     boolean NOT NULL DEFAULT false,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX backup_runs_by_job ON backup_runs (job);
-- One run at a time for a kind of work at a target, across processes.
CREATE UNIQUE INDEX backup_runs_one ON backup_runs (target, subject, kind) WHERE state = 'running';
GRANT SELECT, INSERT, UPDATE ON backup_runs TO foundry_app;

-- The catalogue: what the repositories said they have. A point that they no
-- longer have stays, with when and why it went.
CREATE TABLE backup_points (
    target      text NOT NULL,
    engine      text NOT NULL,
    label       text NOT NULL,
    subject     text NOT NULL CHECK (subject IN ('database', 'files', 'mirrors')),
    type        text NOT NULL,
    started_at  timestamptz NOT NULL,
    stopped_at  timestamptz NOT NULL,
    timeline    bigint NOT NULL,
    start_lsn   text NOT NULL,
    stop_lsn    text NOT NULL,
    start_wal   text NOT NULL,
    stop_wal    text NOT NULL,
    bytes       bigint NOT NULL,
    stored      bigint NOT NULL,
    requires    text[] NOT NULL,
    row_count   bigint NOT NULL DEFAULT 0,          -- noted when it was made; 0: not noted
    broken      text NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now(), -- in the repository
    gone_at     timestamptz,
    gone_why    text NOT NULL DEFAULT '',
    PRIMARY KEY (target, engine, label)
);
CREATE INDEX backup_points_by_time ON backup_points (subject, stopped_at DESC);
GRANT SELECT, INSERT, UPDATE ON backup_points TO foundry_app;

-- Restores that were tried, and what they proved. Append only, but for the end.
CREATE TABLE backup_drills (
    id            uuid PRIMARY KEY,
    run           uuid NOT NULL,
    subject       text NOT NULL CHECK (subject IN ('database', 'files', 'mirrors')),
    target        text NOT NULL,
    engine        text NOT NULL,
    label         text NOT NULL,
    which         text NOT NULL CHECK (which IN ('latest', 'random', 'oldest', 'at')),
    escrow        boolean NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('pass', 'fail', 'inconclusive')),
    started_at    timestamptz NOT NULL,
    ended_at      timestamptz NOT NULL,
    recovered_at  timestamptz,
    record        jsonb NOT NULL,                   -- the drill as it was signed
    hash          bytea NOT NULL CHECK (length(hash) = 32),     -- SHA-256 of the signed bytes; in the audit log
    signed        bytea NOT NULL,                   -- the bytes that are signed
    signer        text NOT NULL,
    signature     bytea NOT NULL
);
CREATE INDEX backup_drills_by_time ON backup_drills (subject, started_at DESC);
GRANT SELECT, INSERT ON backup_drills TO foundry_app;

-- Holds: points that stay whatever the retention says. Reason and ticket are
-- written by people, for people with the right to read them.
CREATE TABLE backup_holds (
    id              uuid PRIMARY KEY,
    target          text NOT NULL,                  -- '': every target
    label           text NOT NULL,                  -- '': every point that the span needs
    from_at         timestamptz,
    until_at        timestamptz,
    reason          text NOT NULL CHECK (length(reason) BETWEEN 10 AND 1000),
    ticket          text NOT NULL CHECK (ticket <> ''),
    actor           text NOT NULL,
    placed_at       timestamptz NOT NULL DEFAULT now(),
    released_at     timestamptz,
    released_by     text NOT NULL DEFAULT '',
    release_reason  text NOT NULL DEFAULT '',
    CHECK (label <> '' OR from_at IS NOT NULL AND until_at IS NOT NULL AND from_at <= until_at)
);
GRANT SELECT, INSERT, UPDATE ON backup_holds TO foundry_app;

-- What was free and used at each target, after each run: the forecast's input.
CREATE TABLE backup_space (
    target  text NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    free    bigint NOT NULL,                        -- -1: not known
    total   bigint NOT NULL,
    stored  bigint NOT NULL,
    PRIMARY KEY (target, at)
);
GRANT SELECT, INSERT, DELETE ON backup_space TO foundry_app;

-- How far the archive at each target has come, as seen in the repository.
CREATE TABLE backup_archived (
    target      text PRIMARY KEY,
    wal_lsn     pg_lsn NOT NULL,                    -- everything before it is there, without a gap
    written_at  timestamptz NOT NULL,               -- of the newest sentinel before it
    seen_at     timestamptz NOT NULL DEFAULT now(),
    gap         text NOT NULL DEFAULT ''            -- the first missing segment behind the oldest point
);
GRANT SELECT, INSERT, UPDATE, DELETE ON backup_archived TO foundry_app;
