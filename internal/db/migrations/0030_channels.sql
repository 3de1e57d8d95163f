-- Ways of telling people beside mail, and who is called when something is
-- critical. Owner: package notify.
--
-- A node of the release before sends only mail, and would give a webhook's
-- message to a relay, which refuses it: webhooks are configured once every node
-- has this release (docs/guides/alarms.md).

-- mail, or webhook:<name of the configuration>.
ALTER TABLE notifications ADD COLUMN channel text NOT NULL DEFAULT 'mail' CHECK (channel ~ '^(mail|webhook:[a-z0-9][a-z0-9-]{0,31})$');
-- What somebody was called for.
ALTER TABLE notifications ADD COLUMN page_id uuid;
CREATE INDEX notifications_by_page ON notifications (page_id) WHERE page_id IS NOT NULL;

-- A call for somebody. It is open until somebody has taken it: nothing else
-- ends it.
CREATE TABLE pages (
    id               uuid PRIMARY KEY,              -- version 7: in order of time
    organisation_id  uuid NOT NULL,                 -- of the alarm; nil: the platform. No foreign key for that reason
    code             text NOT NULL CHECK (code ~ '^[a-z0-9][a-z0-9.-]{0,62}$'),
    severity         text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    facts            text NOT NULL,                 -- as in the alarm: no personal data
    raised_at        timestamptz NOT NULL DEFAULT now(),
    level            integer NOT NULL DEFAULT 0,    -- rounds of calls so far: 1 the one on call, 2 the next, from 3 on everybody
    next_at          timestamptz,                   -- of the next round; null: taken
    taken_at         timestamptz,
    taken_by         text NOT NULL DEFAULT '',      -- a handle of the rota, or an actor of the audit log
    CHECK ((taken_at IS NULL) = (next_at IS NOT NULL))
);
CREATE UNIQUE INDEX pages_open ON pages (organisation_id, code) WHERE taken_at IS NULL;
CREATE INDEX pages_due ON pages (next_at) WHERE next_at IS NOT NULL;

-- Who stands in for whom. Nothing is changed or removed: a later one wins.
-- About the installation: organisation_id is the nil uuid.
CREATE TABLE oncall_overrides (
    id               uuid PRIMARY KEY,              -- version 7: in order of time
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
                     CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    person           text NOT NULL CHECK (person ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
    begins_at        timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL CHECK (ends_at > begins_at),
    made_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX oncall_overrides_ends ON oncall_overrides (ends_at);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['pages', 'oncall_overrides'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY migrator ON %I TO foundry_migrator USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY reader ON %I FOR SELECT TO foundry_reader USING (true)', t);
        EXECUTE format('CREATE POLICY app ON %I TO foundry_app USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation())', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE (severity, facts, level, next_at, taken_at, taken_by) ON pages TO foundry_app;
GRANT SELECT, INSERT ON oncall_overrides TO foundry_app;
