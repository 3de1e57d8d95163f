-- Organisations and their API keys. Owner: package access.

CREATE TABLE organisations (
    id          uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id                   text PRIMARY KEY,           -- the selector: public half of the key
    organisation_id      uuid NOT NULL REFERENCES organisations (id),
    name                 text NOT NULL,
    secret_hash          text NOT NULL CHECK (secret_hash ~ '^\$2[aby]\$\d\d\$'),
    class_floor          smallint NOT NULL DEFAULT 0 CHECK (class_floor BETWEEN 0 AND 4),
    requests_per_minute  bigint NOT NULL DEFAULT 0 CHECK (requests_per_minute >= 0),
    tokens_per_minute    bigint NOT NULL DEFAULT 0 CHECK (tokens_per_minute >= 0),
    expires_at           timestamptz,
    revoked_at           timestamptz,
    version              bigint NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organisation_id, name)
);

ALTER TABLE organisations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organisations FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON organisations TO foundry_app
    USING (id = foundry_organisation()) WITH CHECK (id = foundry_organisation());
CREATE POLICY migrator ON organisations TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON organisations FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON organisations TO foundry_app;
GRANT SELECT ON organisations TO foundry_reader;

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON api_keys TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON api_keys TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON api_keys FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON api_keys TO foundry_app;
GRANT SELECT ON api_keys TO foundry_reader;
