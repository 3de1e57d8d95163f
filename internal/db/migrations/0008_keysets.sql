-- Keysets of organisations, wrapped by the key-encryption key. Owner: package keys.
-- The nil organisation is the installation itself.

-- No reference to organisations: the installation has no row there, and a
-- destroyed keyset must outlive its organisation, or it would be made anew.
CREATE TABLE keysets (
    organisation_id  uuid PRIMARY KEY,
    wrapped          bytea,                                     -- NULL once destroyed, for good
    kek              text NOT NULL,                             -- fingerprint of the key that wraps it
    version          bigint NOT NULL DEFAULT 1,                 -- changes whenever the keys inside do
    made_at          timestamptz NOT NULL DEFAULT now(),
    wrapped_at       timestamptz NOT NULL DEFAULT now(),
    hold_reason      text NOT NULL DEFAULT '',                  -- a legal hold forbids shredding
    hold_by          text NOT NULL DEFAULT '',
    hold_at          timestamptz,
    destroyed_at     timestamptz,
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);

-- The keys inside, without their material. The id is the one that stands in
-- every value that the key has sealed.
CREATE TABLE keyset_keys (
    organisation_id  uuid NOT NULL,
    key_id           bigint NOT NULL,
    status           text NOT NULL CHECK (status IN ('primary', 'enabled', 'kept', 'disabled', 'destroyed')),
    files            boolean NOT NULL DEFAULT false,            -- it has sealed files, which stand in no column: kept after a rotation
    made_at          timestamptz NOT NULL DEFAULT now(),
    disabled_at      timestamptz,
    destroyed_at     timestamptz,
    bytes_sealed     bigint NOT NULL DEFAULT 0,
    values_sealed    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organisation_id, key_id)
);

-- Requests to shred, kept for ever.
CREATE TABLE keyset_shreds (
    id                  uuid PRIMARY KEY,
    organisation_id     uuid NOT NULL,
    state               text NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'approved', 'cancelled', 'executed')),
    reason              text NOT NULL,
    requested_by        text NOT NULL,
    requested_at        timestamptz NOT NULL DEFAULT now(),
    first_approver      text NOT NULL DEFAULT '',
    first_approved_at   timestamptz,
    second_approver     text NOT NULL DEFAULT '',
    second_approved_at  timestamptz,
    execute_after       timestamptz,
    ended_by            text NOT NULL DEFAULT '',
    ended_at            timestamptz,
    statement           jsonb,
    CHECK (second_approver = '' OR first_approver <> '' AND second_approver <> first_approver),
    CHECK (first_approver <> requested_by AND second_approver <> requested_by),
    CHECK (state NOT IN ('approved', 'executed') OR second_approver <> '' AND execute_after IS NOT NULL)
);
CREATE UNIQUE INDEX keyset_shreds_open ON keyset_shreds (organisation_id) WHERE state IN ('requested', 'approved');

-- What the canary plants; no row lives longer than its search.
CREATE TABLE keyset_canaries (
    organisation_id  uuid NOT NULL,
    id               uuid NOT NULL,
    sealed           bytea NOT NULL,
    planted_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation_id, id)
);

ALTER TABLE keysets ENABLE ROW LEVEL SECURITY;
ALTER TABLE keysets FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON keysets TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON keysets TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON keysets FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON keysets TO foundry_app;
GRANT SELECT ON keysets TO foundry_reader;

ALTER TABLE keyset_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keyset_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON keyset_keys TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON keyset_keys TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON keyset_keys FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON keyset_keys TO foundry_app;
GRANT SELECT ON keyset_keys TO foundry_reader;

ALTER TABLE keyset_shreds ENABLE ROW LEVEL SECURITY;
ALTER TABLE keyset_shreds FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON keyset_shreds TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON keyset_shreds TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON keyset_shreds FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE ON keyset_shreds TO foundry_app;
GRANT SELECT ON keyset_shreds TO foundry_reader;

ALTER TABLE keyset_canaries ENABLE ROW LEVEL SECURITY;
ALTER TABLE keyset_canaries FORCE ROW LEVEL SECURITY;
CREATE POLICY app ON keyset_canaries TO foundry_app
    USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation());
CREATE POLICY migrator ON keyset_canaries TO foundry_migrator USING (true) WITH CHECK (true);
CREATE POLICY reader ON keyset_canaries FOR SELECT TO foundry_reader USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON keyset_canaries TO foundry_app;
GRANT SELECT ON keyset_canaries TO foundry_reader;
