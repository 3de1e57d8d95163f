-- What was observed, by what, until when it counts. Owner: package evidence.
-- Observations about the platform itself carry the nil organisation; there is
-- no foreign key for that reason.

-- Append only: evidence is never corrected, only superseded. The columns from
-- id to raw_hash are what the signature is over.
CREATE TABLE observations (
    id                 uuid PRIMARY KEY,            -- version 7: in order of time
    organisation_id    uuid NOT NULL,
    run                uuid NOT NULL,               -- the observations of one run of one control
    control            text NOT NULL,
    scope              text NOT NULL,               -- '' for the fleet, node:N for one node
    subject            text NOT NULL,               -- what was looked at
    result             text NOT NULL CHECK (result IN ('pass', 'fail', 'inconclusive')),
    reason             text NOT NULL CHECK (reason <> ''),
    covered            text[] NOT NULL,
    not_covered        text[] NOT NULL,
    observed_at        timestamptz NOT NULL,        -- when it was looked at
    effective_at       timestamptz NOT NULL,        -- when it was so
    expires_at         timestamptz NOT NULL,        -- until when it counts
    collector          text NOT NULL,
    collector_version  text NOT NULL,
    mode               text NOT NULL,               -- development or production
    owner              text NOT NULL,               -- of an attestation: who stands for it; otherwise empty
    raw_hash           bytea NOT NULL CHECK (length(raw_hash) = 32),
    raw_place          text NOT NULL,               -- where the raw bytes are; empty: in raw, or there were none
    raw                bytea CHECK (length(raw) <= 16384),
    hash               bytea NOT NULL CHECK (length(hash) = 32),   -- of the signed statement: what the audit log anchors
    signer             text NOT NULL,
    signature          bytea NOT NULL CHECK (length(signature) = 64)
);
CREATE INDEX observations_by_control ON observations (organisation_id, control, scope, id DESC);
CREATE INDEX observations_by_run ON observations (run);

-- The public keys that observations are verified with. A key is never removed.
CREATE TABLE evidence_signers (
    id          text PRIMARY KEY,                   -- first 16 hexadecimal digits of the SHA-256 of the key
    public_key  bytea NOT NULL CHECK (length(public_key) = 32),
    node        bigint NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON evidence_signers TO foundry_app;

-- Who runs a control now, and when it is next due: one runner for each control
-- across all nodes. No organisation's data, hence no organisation.
CREATE TABLE control_runs (
    control      text NOT NULL,
    scope        text NOT NULL,
    node         bigint NOT NULL,
    lease        uuid NOT NULL,
    leased_until timestamptz NOT NULL,              -- in the past: nobody runs it
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    next_due     timestamptz NOT NULL,
    retired_at   timestamptz,                       -- the node is gone for good: nothing is expected of it
    PRIMARY KEY (control, scope)
);
GRANT SELECT, INSERT, UPDATE ON control_runs TO foundry_app;

ALTER TABLE observations ENABLE ROW LEVEL SECURITY;
ALTER TABLE observations FORCE ROW LEVEL SECURITY;
CREATE POLICY app_insert ON observations FOR INSERT TO foundry_app WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY app_select ON observations FOR SELECT TO foundry_app USING (organisation_id = foundry_organisation());
CREATE POLICY migrator ON observations TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON observations FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT ON observations TO foundry_app;
GRANT SELECT ON observations TO foundry_reader;
