-- The recovery key, who was let in by it, and what came of it. Owner: package
-- backup. All of it is about the installation as a whole: no table names an
-- organisation. No key and no share is here, and what names people is sealed.
--
-- Nothing here is ever changed or deleted: the application may only insert and
-- read, and what happened later is a row of its own.

-- A new recovery key, asked for by one person and approved by another.
CREATE TABLE break_glass_requests (
    id            uuid PRIMARY KEY,
    actor         text NOT NULL,
    threshold     integer NOT NULL CHECK (threshold BETWEEN 2 AND 16),
    shares        integer NOT NULL CHECK (shares BETWEEN threshold AND 16),
    reason        text NOT NULL CHECK (length(reason) BETWEEN 10 AND 1000),
    sealed        bytea NOT NULL,                   -- holders, contacts, briefing, places: by the installation's keyring
    requested_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE break_glass_decisions (
    request     uuid PRIMARY KEY REFERENCES break_glass_requests (id),
    actor       text NOT NULL,
    approved    boolean NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT now()
);
-- A recovery key that was made, known by its public half's fingerprint.
CREATE TABLE break_glass_sets (
    set_id       text PRIMARY KEY CHECK (set_id ~ '^[0-9a-f]{8}$'),
    fingerprint  text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{16}$'),
    request      uuid NOT NULL UNIQUE REFERENCES break_glass_requests (id),   -- one key for one approval
    actor        text NOT NULL,
    threshold    integer NOT NULL,
    shares       integer NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now()
);
-- Somebody got in with the shares. Rows may come late: acts that were taken
-- while the database was away wait in a file, whose chain's hash is kept.
CREATE TABLE break_glass_openings (
    id          uuid PRIMARY KEY,
    set_id      text NOT NULL,
    actor       text NOT NULL,
    scope       text NOT NULL CHECK (scope IN ('operate', 'secure', 'administer', 'kit')),
    reason      text NOT NULL CHECK (length(reason) BETWEEN 10 AND 1000),
    shares      integer[] NOT NULL,                 -- which ones were used
    opened_at   timestamptz NOT NULL,
    until_at    timestamptz NOT NULL,
    offline     boolean NOT NULL,                   -- without the node, from the kit itself
    chain       bytea NOT NULL CHECK (length(chain) = 32),
    entered_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE break_glass_reviews (
    opening      uuid PRIMARY KEY REFERENCES break_glass_openings (id),
    actor        text NOT NULL,
    finding      text NOT NULL CHECK (length(finding) BETWEEN 10 AND 2000),
    justified    boolean NOT NULL,
    reviewed_at  timestamptz NOT NULL DEFAULT now()
);
-- A restore with nothing but the kit and the shares that people typed.
CREATE TABLE break_glass_drills (
    id           uuid PRIMARY KEY,
    set_id       text NOT NULL,
    actor        text NOT NULL,
    by_contact   boolean NOT NULL,                  -- run by the emergency contact alone
    outcome      text NOT NULL CHECK (outcome IN ('pass', 'fail', 'inconclusive')),
    reason       text NOT NULL,
    seconds      double precision NOT NULL,         -- from the kit to the proof
    recovered_at timestamptz,
    kit_made_at  timestamptz NOT NULL,
    evidence     text NOT NULL,                     -- SHA-256 of the printed record
    drilled_at   timestamptz NOT NULL DEFAULT now()
);
-- The contacts were called, and are still right.
CREATE TABLE break_glass_attestations (
    id           uuid PRIMARY KEY,
    actor        text NOT NULL,
    contacts     integer NOT NULL CHECK (contacts > 0),
    briefed      boolean NOT NULL,
    attested_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON break_glass_requests, break_glass_decisions, break_glass_sets, break_glass_openings,
    break_glass_reviews, break_glass_drills, break_glass_attestations TO foundry_app;
