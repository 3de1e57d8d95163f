-- Where an organisation's data may go. Owner: package gateway.

CREATE TABLE organisation_policies (
    organisation_id  uuid PRIMARY KEY REFERENCES organisations (id),
    document         jsonb NOT NULL,
    version          bigint NOT NULL DEFAULT 1,
    changed_at       timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE organisation_policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE organisation_policies FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON organisation_policies TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON organisation_policies TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON organisation_policies FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON organisation_policies TO foundry_app;
GRANT SELECT ON organisation_policies TO foundry_reader;
