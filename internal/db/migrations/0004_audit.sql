-- What happened: every mutating act and every denial. Owner: package audit.
-- Append only for every role; acts of the platform itself carry the nil organisation.

CREATE TABLE audit (
    id               uuid PRIMARY KEY,              -- version 7: in order of time
    at               timestamptz NOT NULL DEFAULT now(),
    organisation_id  uuid NOT NULL,
    actor            text NOT NULL,                 -- principal, e.g. local:uid=0 or key:abcde
    act              text NOT NULL,                 -- e.g. key.create
    target           text NOT NULL DEFAULT '',
    outcome          text NOT NULL CHECK (outcome IN ('done', 'denied')),
    details          jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_organisation ON audit (organisation_id, id DESC);

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY app_insert ON audit FOR INSERT TO foundry_app WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY app_select ON audit FOR SELECT TO foundry_app USING (organisation_id = foundry_organisation());
CREATE POLICY migrator ON audit TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON audit FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT ON audit TO foundry_app;
GRANT SELECT ON audit TO foundry_reader;
