-- oldest binary: 1
--
-- What every later migration stands on. Owner: package db.
--
-- How to write a migration
-- ------------------------
-- Files are numbered, forward only, and never edited once released: their
-- checksum is recorded. Each runs in one transaction, as foundry_migrator.
-- Expand first, contract in a later release: a node of the release before must
-- be able to work on the new schema. A file that breaks that promise says so in
-- its first line, "-- oldest binary: N", where N is the number of the newest
-- migration known to the oldest binary that can still work; without the line,
-- the promise of the file before holds.
--
-- Nothing is granted by default except to read, to foundry_reader: a forgotten
-- grant fails in the first test, a forgotten revoke fails in the news.
-- Grant neither TRUNCATE nor REFERENCES (row-level security covers neither).
--
-- The pattern for a table with an organisation_id. FORCE, because without it
-- the owner is exempt; a policy for the migrator, because with it a backfill
-- would otherwise find no rows and say nothing.
--
--   CREATE TABLE things (
--       organisation_id  uuid NOT NULL REFERENCES organisations (id),
--       ...
--   );
--   CREATE INDEX things_by_organisation ON things (organisation_id, ...);
--   ALTER TABLE things ENABLE ROW LEVEL SECURITY;
--   ALTER TABLE things FORCE ROW LEVEL SECURITY;
--   CREATE POLICY app ON things TO foundry_app
--       USING (organisation_id = foundry_organisation())
--       WITH CHECK (organisation_id = foundry_organisation());
--   CREATE POLICY migrator ON things TO foundry_migrator USING (true) WITH CHECK (true);
--   CREATE POLICY reader ON things FOR SELECT TO foundry_reader USING (true);
--   GRANT SELECT, INSERT, UPDATE ON things TO foundry_app;
--
--   Only if the journal ships into it:
--   CREATE POLICY shipper ON things FOR INSERT TO foundry_shipper WITH CHECK (true);
--   GRANT INSERT ON things TO foundry_shipper;
--   The shipper sees no row. INSERT ... ON CONFLICT DO NOTHING without a
--   conflict target, and without RETURNING, needs no SELECT. COPY does not work
--   under row-level security; INSERT ... SELECT unnest(...) does.
--
-- Views over such tables need WITH (security_invoker = true); materialised
-- views over them are refused. SECURITY DEFINER functions need SET search_path.
-- The start-up check refuses to run on a schema that breaks one of these rules.

-- STABLE, or the planner cannot use an index on organisation_id. After COMMIT
-- the setting is an empty string, not NULL: without NULLIF the cast would fail.
CREATE FUNCTION foundry_organisation() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT NULLIF(current_setting('foundry.organisation', true), '')::uuid $$;

CREATE TABLE schema_migrations (
    version        integer PRIMARY KEY,
    name           text NOT NULL,
    checksum       text NOT NULL,                  -- SHA-256 of the file, hexadecimal
    applied_at     timestamptz NOT NULL DEFAULT now(),
    oldest_binary  integer NOT NULL                -- newest migration known to the oldest binary this schema serves
);

-- Sixteen shards, so that two transactions that touch rarely wait for each
-- other; the sum changes with every committed touch.
CREATE TABLE foundry_changes (
    shard  smallint PRIMARY KEY,
    value  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO foundry_changes (shard) SELECT generate_series(0, 15);

CREATE FUNCTION foundry_touch() RETURNS void
    LANGUAGE sql
    AS $$
        UPDATE foundry_changes SET value = value + 1 WHERE shard = pg_backend_pid() % 16;
        NOTIFY foundry_changed;
    $$;

GRANT SELECT, UPDATE ON foundry_changes TO foundry_app, foundry_sequencer;

-- The reader may read every table; what it finds there is up to the policies.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO foundry_reader;
GRANT SELECT ON schema_migrations, foundry_changes TO foundry_reader;
GRANT SELECT ON schema_migrations TO foundry_app, foundry_shipper, foundry_sequencer;
