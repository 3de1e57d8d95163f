-- Which continuity plan is in force, who approved and read it, and when what
-- lapses was last seen to. Owner: package governance. All of it is about the
-- installation as a whole: no table names an organisation.
--
-- Nothing here is changed or deleted, but for the sealed text, which a rotation
-- of keys seals anew: what happened later is a row of its own.

-- A plan that somebody handed in.
CREATE TABLE plan_revisions (
    id            uuid PRIMARY KEY,                 -- version 7: in order of time
    hash          text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    sealed        bytea NOT NULL,                   -- the fleet file and its runbooks
    note          text NOT NULL CHECK (length(note) BETWEEN 1 AND 1000),
    actor         text NOT NULL,
    needs         integer NOT NULL CHECK (needs BETWEEN 1 AND 5),   -- approvals, by different people
    errors        integer NOT NULL,                 -- findings, when it was handed in
    warnings      integer NOT NULL,
    notes         integer NOT NULL,
    submitted_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE (sealed) ON plan_revisions TO foundry_app;

CREATE TABLE plan_decisions (
    revision    uuid NOT NULL REFERENCES plan_revisions (id),
    actor       text NOT NULL,
    approved    boolean NOT NULL,
    reason      text NOT NULL CHECK (length(reason) <= 1000),
    decided_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (revision, actor)                   -- one voice each
);
-- From when a revision is in force. The newest row counts.
CREATE TABLE plan_in_force (
    n         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    revision  uuid NOT NULL UNIQUE REFERENCES plan_revisions (id),
    since_at  timestamptz NOT NULL DEFAULT now()
);
-- Somebody has read the plan with this hash.
CREATE TABLE plan_acknowledgements (
    hash      text NOT NULL,
    actor     text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (hash, actor)
);
-- A change asks for a review of the plan.
CREATE TABLE plan_reviews (
    id         uuid PRIMARY KEY,
    revision   uuid NOT NULL REFERENCES plan_revisions (id),
    because    text[] NOT NULL,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    due_at     timestamptz NOT NULL
);
CREATE TABLE plan_review_results (
    review     uuid PRIMARY KEY REFERENCES plan_reviews (id),
    actor      text NOT NULL,
    finding    text NOT NULL CHECK (length(finding) BETWEEN 10 AND 2000),
    closed_at  timestamptz NOT NULL DEFAULT now()
);
-- Something of the registers was done: a review, a rehearsal, a check-in.
CREATE TABLE plan_confirmations (
    id      uuid PRIMARY KEY,
    entry   text NOT NULL,                          -- key of the register's entry
    actor   text NOT NULL,
    done_at timestamptz NOT NULL,
    note    text NOT NULL CHECK (length(note) <= 1000),
    at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX plan_confirmations_by_entry ON plan_confirmations (entry, done_at DESC);
-- A reminder that was sent, so that it is sent once.
CREATE TABLE plan_reminders (
    entry   text NOT NULL,
    due_at  timestamptz NOT NULL,
    stage   text NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (entry, due_at, stage)
);
GRANT SELECT, INSERT ON plan_decisions, plan_in_force, plan_acknowledgements, plan_reviews, plan_review_results,
    plan_confirmations, plan_reminders TO foundry_app;
