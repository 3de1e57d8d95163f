-- Who must be told, and whether they were. Owner: package notify.
-- Rows of the platform itself (alarms, test messages) carry the nil
-- organisation; there is no foreign key for that reason.

-- The outbox. Addresses and bodies are personal data: they are in sealed only,
-- and go when the message is delivered or given up.
CREATE TABLE notifications (
    id               uuid PRIMARY KEY,              -- version 7: in order of time
    organisation_id  uuid NOT NULL,
    template         text NOT NULL,
    message_id       text NOT NULL UNIQUE,          -- RFC 5322 3.6.4, without angle brackets; the same for every attempt
    recipient        bytea NOT NULL CHECK (length(recipient) = 32),    -- keyed hash of the address
    content          bytea NOT NULL CHECK (length(content) = 32),      -- keyed hash of the message as rendered
    sealed           bytea,                         -- null: wiped
    state            text NOT NULL CHECK (state IN ('queued', 'sending', 'accepted', 'indeterminate', 'failed', 'expired')),
    attempts         integer NOT NULL DEFAULT 0,
    doubtful         integer NOT NULL DEFAULT 0,    -- attempts whose outcome nobody knows
    relay            text NOT NULL DEFAULT '',
    answer           text NOT NULL DEFAULT '',      -- the relay's last words, without the address
    created_at       timestamptz NOT NULL DEFAULT now(),
    next_at          timestamptz,                   -- null: not tried again by itself
    expires_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    lease            uuid,                          -- of the node that is sending
    leased_until     timestamptz,
    CHECK (state NOT IN ('accepted', 'expired') OR sealed IS NULL),
    CHECK (state <> 'sending' OR lease IS NOT NULL)
);
CREATE INDEX notifications_due ON notifications (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notifications_wipe ON notifications (expires_at) WHERE sealed IS NOT NULL;
CREATE INDEX notifications_by_organisation ON notifications (organisation_id, id DESC);

-- Every attempt, for ever: what each relay said.
CREATE TABLE notification_attempts (
    notification_id  uuid NOT NULL REFERENCES notifications (id),
    organisation_id  uuid NOT NULL,
    n                integer NOT NULL,              -- attempt
    hop              integer NOT NULL,              -- which relay of the attempt, from 1
    at               timestamptz NOT NULL DEFAULT now(),
    relay            text NOT NULL,
    outcome          text NOT NULL CHECK (outcome IN ('accepted', 'indeterminate', 'deferred', 'refused')),
    stage            text NOT NULL,
    code             integer NOT NULL,              -- of the SMTP reply; 0: there was none
    answer           text NOT NULL,
    PRIMARY KEY (notification_id, n, hop)
);

-- Alarms that were raised; one row for each code, so that a storm is one
-- message and a count.
CREATE TABLE alarms (
    organisation_id  uuid NOT NULL,
    code             text NOT NULL CHECK (code ~ '^[a-z0-9][a-z0-9.-]{0,62}$'),
    severity         text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    first_at         timestamptz NOT NULL,          -- of the present window
    last_at          timestamptz NOT NULL,
    count            bigint NOT NULL,               -- in the present window
    total            bigint NOT NULL,
    PRIMARY KEY (organisation_id, code)
);

ALTER TABLE notifications ENABLE ROW LEVEL SECURITY;
ALTER TABLE notifications FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON notifications TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON notifications TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON notifications FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON notifications TO foundry_app;
GRANT SELECT ON notifications TO foundry_reader;

ALTER TABLE notification_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_attempts FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON notification_attempts TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON notification_attempts TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON notification_attempts FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT ON notification_attempts TO foundry_app;
GRANT SELECT ON notification_attempts TO foundry_reader;

ALTER TABLE alarms ENABLE ROW LEVEL SECURITY;
ALTER TABLE alarms FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON alarms TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON alarms TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON alarms FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON alarms TO foundry_app;
GRANT SELECT ON alarms TO foundry_reader;
