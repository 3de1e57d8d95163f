-- People, how they sign in, and what they sign in to. Owner: package access.
--
-- A person may belong to several organisations, so a person, what proves who
-- they are, and their sessions belong to the platform: organisation_id is the
-- nil UUID there, and only a transaction of the platform sees them. What binds
-- a person to an organisation (memberships, invitations, service accounts)
-- belongs to that organisation; of these, memberships and invitations may be
-- the platform's own, which has no row in organisations: hence no foreign key.
--
-- No column holds an e-mail address, a name, a token or a secret in plaintext:
-- addresses are found by a keyed HMAC, secrets are bcrypt hashes, and all else
-- is sealed with table, column and row as associated data.

CREATE TABLE people (
    id                   uuid PRIMARY KEY,
    organisation_id      uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    email_mac            bytea NOT NULL CHECK (length(email_mac) = 32),
    email_sealed         bytea NOT NULL,
    name_sealed          bytea NOT NULL,
    status               text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'deactivated')),
    -- hs384:<pepper id>:<bcrypt>; null: signs in with a passkey only
    password_hash        text CHECK (password_hash ~ '^hs384:[0-9a-f]{8}:\$2[aby]\$1[2-9]\$'),
    password_changed_at  timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    last_signin_at       timestamptz,
    deactivated_at       timestamptz,
    version              bigint NOT NULL DEFAULT 1
);
-- An address is free again once its person is deactivated: who comes back is
-- invited anew and gets a new id, so that nothing old opens again.
CREATE UNIQUE INDEX people_by_email ON people (email_mac) WHERE status = 'active';

CREATE TABLE memberships (
    organisation_id  uuid NOT NULL,              -- nil: the platform
    person_id        uuid NOT NULL REFERENCES people (id),
    roles            text[] NOT NULL CHECK (cardinality(roles) > 0),
    created_at       timestamptz NOT NULL DEFAULT now(),
    version          bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (organisation_id, person_id)
);
CREATE INDEX memberships_by_person ON memberships (person_id);

-- One TOTP secret (RFC 6238) per person. last_step only grows: that is what
-- refuses a code shown twice, whichever node it is shown to.
CREATE TABLE totp_secrets (
    person_id        uuid PRIMARY KEY REFERENCES people (id),
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    secret_sealed    bytea NOT NULL,
    last_step        bigint NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    last_used_at     timestamptz
);

CREATE TABLE passkeys (
    id                 bytea PRIMARY KEY CHECK (length(id) BETWEEN 16 AND 1023),   -- the credential id
    person_id          uuid NOT NULL REFERENCES people (id),
    organisation_id    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    name_sealed        bytea NOT NULL,
    credential_sealed  bytea NOT NULL,           -- public key, flags and attestation; bound to person and id
    sign_count         bigint NOT NULL,
    clone_warning_at   timestamptz,              -- set: refused until removed
    created_at         timestamptz NOT NULL DEFAULT now(),
    last_used_at       timestamptz
);
CREATE INDEX passkeys_by_person ON passkeys (person_id);

CREATE TABLE recovery_codes (
    person_id        uuid NOT NULL REFERENCES people (id),
    selector         text NOT NULL,
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    code_hash        text NOT NULL CHECK (code_hash ~ '^\$2[aby]\$\d\d\$'),
    used_at          timestamptz,
    PRIMARY KEY (person_id, selector)
);

CREATE TABLE sessions (
    id                text PRIMARY KEY,          -- the selector: public half of the token
    organisation_id   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    person_id         uuid NOT NULL REFERENCES people (id),
    acting_in         uuid NOT NULL,             -- the organisation acted in; nil: the platform
    secret_hash       text NOT NULL CHECK (secret_hash ~ '^\$2[aby]\$\d\d\$'),
    method            text NOT NULL,             -- how the sign-in was proven, e.g. password+totp
    second_factor_at  timestamptz,               -- when a second factor was last shown; null: never
    device            text NOT NULL,             -- coarse: browser and system
    place_sealed      bytea NOT NULL,            -- coarse: the address without its last part
    created_at        timestamptz NOT NULL DEFAULT now(),
    last_seen_at      timestamptz NOT NULL DEFAULT now(),
    idle_seconds      integer NOT NULL CHECK (idle_seconds > 0),
    expires_at        timestamptz NOT NULL,
    ended_at          timestamptz,
    end_reason        text,
    version           bigint NOT NULL DEFAULT 1
);
CREATE INDEX sessions_by_person ON sessions (person_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_live ON sessions (expires_at) WHERE ended_at IS NULL;

-- A sign-in or an enrolment that is half done. The id is a keyed HMAC of the
-- handle that the browser holds; a handle lives five minutes, is used once and
-- opens nothing by itself.
CREATE TABLE ceremonies (
    id               bytea PRIMARY KEY CHECK (length(id) = 32),
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    kind             text NOT NULL,
    person_id        uuid REFERENCES people (id),      -- null: not known yet
    state_sealed     bytea NOT NULL,
    attempts         smallint NOT NULL DEFAULT 0,
    expires_at       timestamptz NOT NULL
);
CREATE INDEX ceremonies_by_expiry ON ceremonies (expires_at);
CREATE INDEX ceremonies_by_person ON ceremonies (person_id);

-- Wrong passwords and codes for one address, known or not: an address that
-- belongs to nobody is locked like any other, and so gives nothing away.
CREATE TABLE signin_failures (
    account          bytea PRIMARY KEY CHECK (length(account) = 32),   -- email_mac
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    failures         integer NOT NULL,
    last_failed_at   timestamptz NOT NULL DEFAULT now(),
    locked_until     timestamptz               -- null: not locked, or released and audited
);
CREATE INDEX signin_failures_by_time ON signin_failures (last_failed_at);

CREATE TABLE invitations (
    id               text PRIMARY KEY,          -- the selector: public half of the token
    organisation_id  uuid NOT NULL,             -- nil: the platform
    kind             text NOT NULL CHECK (kind IN ('member', 'bootstrap', 'recovery')),
    person_id        uuid REFERENCES people (id),      -- recovery: whose
    email_mac        bytea NOT NULL CHECK (length(email_mac) = 32),
    email_sealed     bytea NOT NULL,
    name_sealed      bytea NOT NULL,
    roles            text[] NOT NULL,
    secret_hash      text NOT NULL CHECK (secret_hash ~ '^\$2[aby]\$\d\d\$'),
    invited_by       text NOT NULL,             -- principal
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    accepted_at      timestamptz,
    accepted_by      uuid,
    revoked_at       timestamptz,
    version          bigint NOT NULL DEFAULT 1
);
CREATE INDEX invitations_by_organisation ON invitations (organisation_id, created_at);

-- A principal that is no person: it owns API keys and cannot sign in.
CREATE TABLE service_accounts (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL REFERENCES organisations (id),
    name             text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    status           text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'deactivated')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    deactivated_at   timestamptz,
    version          bigint NOT NULL DEFAULT 1,
    UNIQUE (organisation_id, name)
);

-- Who made a key, and whose it is. Both null: made over the local socket.
ALTER TABLE api_keys ADD COLUMN created_by uuid;            -- a person
ALTER TABLE api_keys ADD COLUMN service_account_id uuid REFERENCES service_accounts (id);
CREATE INDEX api_keys_by_person ON api_keys (created_by) WHERE revoked_at IS NULL;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['people', 'memberships', 'totp_secrets', 'passkeys', 'recovery_codes', 'sessions',
        'ceremonies', 'signin_failures', 'invitations', 'service_accounts']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY app ON %I TO foundry_app USING (organisation_id = foundry_organisation())
            WITH CHECK (organisation_id = foundry_organisation())', t);
        EXECUTE format('CREATE POLICY migrator ON %I TO foundry_migrator USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY reader ON %I FOR SELECT TO foundry_reader USING (true)', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO foundry_app', t);
        EXECUTE format('GRANT SELECT ON %I TO foundry_reader', t);
    END LOOP;
END $$;

-- What is over leaves nothing that could be used; people, sessions and
-- invitations stay, because the audit log speaks of them.
GRANT DELETE ON memberships, totp_secrets, passkeys, recovery_codes, ceremonies, signin_failures TO foundry_app;
