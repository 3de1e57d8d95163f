-- Staff access to client data, and the register of who has access to what.
-- Owner: package access.
--
-- Nothing here is ever changed or deleted: the application may only insert and
-- read. A grant is a row of facts, and what happened to it afterwards (approved,
-- rejected, used, ended) are rows of their own, from which its state is told.
-- The application cannot say when a row was made: that column is not granted.
--
-- Who asked and who holds are principals ("person:<id>", and "local:uid=0" for
-- who broke the glass); no name or address of anybody is here.

CREATE TABLE staff_grants (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL REFERENCES organisations (id),   -- whose data
    kind             text NOT NULL CHECK (kind IN ('request', 'break-glass')),
    requester        text NOT NULL CHECK (requester ~ '^(person:[0-9a-f-]{36}|local:uid=\d+)$'),
    holder           text NOT NULL CHECK (holder ~ '^person:[0-9a-f-]{36}$'),                    -- who may use it
    scopes           text[] NOT NULL CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['requests', 'billing', 'audit', 'settings']),
    reason           text NOT NULL CHECK (length(reason) BETWEEN 10 AND 1000),
    ticket           text NOT NULL CHECK (length(ticket) BETWEEN 1 AND 100),
    seconds          integer NOT NULL CHECK (seconds BETWEEN 60 AND 28800),
    requested_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, organisation_id, kind, requester, holder),          -- what the events refer to
    CHECK (kind = 'break-glass' AND requester LIKE 'local:%' AND seconds <= 3600
        OR kind = 'request' AND requester LIKE 'person:%' AND holder = requester)
);
CREATE INDEX staff_grants_by_organisation ON staff_grants (organisation_id, id);
CREATE INDEX staff_grants_by_holder ON staff_grants (holder, organisation_id);

CREATE TABLE staff_grant_events (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL,
    grant_id         uuid NOT NULL,
    kind             text NOT NULL,
    requester        text NOT NULL,
    holder           text NOT NULL,
    event            text NOT NULL CHECK (event IN ('approved', 'rejected', 'opened', 'used', 'ended', 'reviewed')),
    actor            text NOT NULL CHECK (actor ~ '^(person:[0-9a-f-]{36}|local:uid=\d+|system:[a-z-]+)$'),
    side             text NOT NULL CHECK (side IN ('client', 'platform')),
    note             text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    at               timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    -- The same organisation, and the same two people, as in the grant: nobody
    -- approves with a row that says that somebody else had asked.
    FOREIGN KEY (grant_id, organisation_id, kind, requester, holder) REFERENCES staff_grants (id, organisation_id, kind, requester, holder),
    CHECK ((expires_at IS NOT NULL) = (event IN ('approved', 'opened'))),
    CHECK (expires_at IS NULL OR expires_at > at AND expires_at <= at + interval '8 hours'),
    CHECK (event NOT IN ('approved', 'reviewed') OR actor LIKE 'person:%' AND actor NOT IN (requester, holder)),
    CHECK (event NOT IN ('approved', 'rejected') OR kind = 'request'),
    CHECK (event NOT IN ('opened', 'reviewed') OR kind = 'break-glass'),
    CHECK (event <> 'opened' OR actor = requester),
    CHECK (event <> 'used' OR actor = holder)
);
CREATE INDEX staff_grant_events_by_grant ON staff_grant_events (organisation_id, grant_id, id);
CREATE UNIQUE INDEX staff_grant_decided_once ON staff_grant_events (grant_id) WHERE event IN ('approved', 'rejected', 'opened');
CREATE UNIQUE INDEX staff_grant_ended_once ON staff_grant_events (grant_id) WHERE event = 'ended';
CREATE UNIQUE INDEX staff_grant_reviewed_once ON staff_grant_events (grant_id) WHERE event = 'reviewed';
-- Use is noted at most once a minute, whichever node sees it.
CREATE UNIQUE INDEX staff_grant_used_by_minute ON staff_grant_events (grant_id, date_bin('1 minute', at, '2000-01-01 00:00:00+00'))
    WHERE event = 'used';

-- Who may approve for an organisation; the newest row counts.
CREATE TABLE staff_access_rules (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL REFERENCES organisations (id),
    approvers        text NOT NULL CHECK (approvers IN ('either', 'organisation', 'platform-security')),
    actor            text NOT NULL,
    at               timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX staff_access_rules_by_organisation ON staff_access_rules (organisation_id, id);

-- Pictures of the register, signed and chained: each names the digest of the
-- one before. The platform's own, over all organisations. The document is null
-- where nothing changed since the picture that same_as names.
CREATE TABLE access_register_snapshots (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    taken_at         timestamptz NOT NULL,
    digest           bytea NOT NULL CHECK (length(digest) = 32),      -- SHA-256 of the document
    previous         bytea CHECK (length(previous) = 32),             -- digest of the one before; null: the first
    entries          integer NOT NULL,
    document         bytea,
    same_as          uuid REFERENCES access_register_snapshots (id),
    signer           text NOT NULL,
    signature        bytea NOT NULL,
    CHECK ((document IS NULL) = (same_as IS NOT NULL))
);
CREATE INDEX access_register_snapshots_by_time ON access_register_snapshots (taken_at);

-- Reviews: who must confirm which entries by when, and what they said. One
-- campaign covers one organisation, or (nil) the platform.
CREATE TABLE access_reviews (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL,
    title            text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    started_by       text NOT NULL,
    started_at       timestamptz NOT NULL DEFAULT now(),
    due_at           timestamptz NOT NULL,
    UNIQUE (id, organisation_id)
);
CREATE INDEX access_reviews_by_organisation ON access_reviews (organisation_id, id);

CREATE TABLE access_review_items (
    review_id        uuid NOT NULL,
    organisation_id  uuid NOT NULL,
    kind             text NOT NULL,
    entry            text NOT NULL,
    facts            bytea NOT NULL CHECK (length(facts) = 32),       -- what is confirmed: the entry as it was
    summary          text NOT NULL,
    subject          text NOT NULL,          -- whose access it is: who may not confirm it
    PRIMARY KEY (review_id, kind, entry),
    FOREIGN KEY (review_id, organisation_id) REFERENCES access_reviews (id, organisation_id),
    UNIQUE (review_id, organisation_id, kind, entry, subject)
);
CREATE INDEX access_review_items_by_organisation ON access_review_items (organisation_id, review_id);

CREATE TABLE access_review_results (
    id               uuid PRIMARY KEY,
    review_id        uuid NOT NULL,
    organisation_id  uuid NOT NULL,
    kind             text NOT NULL,
    entry            text NOT NULL,
    subject          text NOT NULL,
    result           text NOT NULL CHECK (result IN ('keep', 'remove')),
    actor            text NOT NULL,
    note             text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    at               timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (review_id, organisation_id, kind, entry, subject) REFERENCES access_review_items (review_id, organisation_id, kind, entry, subject),
    CHECK (actor <> subject)
);
CREATE UNIQUE INDEX access_review_results_once ON access_review_results (review_id, kind, entry);
CREATE INDEX access_review_results_by_organisation ON access_review_results (organisation_id, review_id);

DO $$
DECLARE
    t text;
    columns text;
BEGIN
    FOREACH t IN ARRAY ARRAY['staff_grants', 'staff_grant_events', 'staff_access_rules', 'access_register_snapshots',
        'access_reviews', 'access_review_items', 'access_review_results']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY app_insert ON %I FOR INSERT TO foundry_app WITH CHECK (organisation_id = foundry_organisation())', t);
        EXECUTE format('CREATE POLICY app_select ON %I FOR SELECT TO foundry_app USING (organisation_id = foundry_organisation())', t);
        EXECUTE format('CREATE POLICY migrator ON %I TO foundry_migrator USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY reader ON %I FOR SELECT TO foundry_reader USING (true)', t);
        EXECUTE format('GRANT SELECT ON %I TO foundry_app, foundry_reader', t);
        -- Every column but those that the database dates itself.
        SELECT string_agg(quote_ident(attname), ', ') INTO columns FROM pg_attribute
         WHERE attrelid = t::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('at', 'requested_at', 'started_at');
        EXECUTE format('GRANT INSERT (%s) ON %I TO foundry_app', columns, t);
    END LOOP;
END $$;
