-- Exercises of the continuity plan that were handed in, and what they left to be
-- done. Owner: package continuity/exercise. All of it is about the installation
-- as a whole: no table names an organisation.
--
-- Nothing here is changed or deleted, but for what is sealed, which a rotation
-- of keys seals anew: what happened later is a row of its own.

CREATE TABLE exercises (
    id             text PRIMARY KEY CHECK (id ~ '^[a-z0-9-]{3,64}$'),   -- its own timeline's
    scenario       text NOT NULL,
    plan_scenario  text NOT NULL,                    -- of the plan, that it rehearses; empty: none
    mode           text NOT NULL CHECK (mode IN ('desktop', 'sandbox', 'live')),
    outcome        text NOT NULL CHECK (outcome IN ('passed', 'missed', 'failed', 'inconclusive', 'aborted')),
    plan_hash      text NOT NULL,                    -- of the plan in force when it began; empty: none was
    head           text NOT NULL CHECK (head ~ '^[0-9a-f]{64}$'),       -- of its own timeline
    began_at       timestamptz NOT NULL,
    ended_at       timestamptz NOT NULL,
    summary        bytea NOT NULL,                   -- sealed: what a list shows of it
    bundle         bytea NOT NULL,                   -- sealed: the record and its timelines, as handed in
    actor          text NOT NULL,
    submitted_at   timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE (summary, bundle) ON exercises TO foundry_app;

-- What an exercise left to be done; what it is about is in the sealed summary.
CREATE TABLE exercise_actions (
    exercise  text NOT NULL REFERENCES exercises (id),
    action    text NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    owner     text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),    -- a name of the plan
    due_at    timestamptz NOT NULL,
    PRIMARY KEY (exercise, action)
);
-- An action was done, or put off. The newest row counts.
CREATE TABLE exercise_action_changes (
    n         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    exercise  text NOT NULL,
    action    text NOT NULL,
    owner     text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    due_at    timestamptz NOT NULL,
    done_at   timestamptz,
    words     text NOT NULL CHECK (length(words) BETWEEN 1 AND 1000),   -- what shows it, or why it was put off
    actor     text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (exercise, action) REFERENCES exercise_actions (exercise, action)
);
CREATE INDEX exercise_action_changes_by_action ON exercise_action_changes (exercise, action, n DESC);
GRANT SELECT, INSERT ON exercise_actions, exercise_action_changes TO foundry_app;
