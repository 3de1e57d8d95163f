-- What it costs that the fleet's own models are away. Owner: package
-- gateway/ledger. The ledger's own rows stay what is charged; this only sums,
-- while it happens, what would have cost nothing at home.

-- From when until when requests went elsewhere. About the installation as a
-- whole: organisation_id is the nil uuid.
CREATE TABLE fallbacks (
    id               uuid PRIMARY KEY,
    organisation_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
                     CHECK (organisation_id = '00000000-0000-0000-0000-000000000000'),
    provider         text NOT NULL,                      -- the fleet's own that is away
    began_at         timestamptz NOT NULL DEFAULT now(),
    last_at          timestamptz NOT NULL DEFAULT now(), -- when a request last went elsewhere
    ended_at         timestamptz
);
CREATE UNIQUE INDEX fallbacks_open ON fallbacks (provider) WHERE ended_at IS NULL;

-- What that cost an organisation, by the node that answered.
CREATE TABLE fallback_costs (
    fallback_id      uuid NOT NULL REFERENCES fallbacks (id),
    organisation_id  uuid NOT NULL REFERENCES organisations (id),
    node             bigint NOT NULL,
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    provider         text NOT NULL,
    began_at         timestamptz NOT NULL DEFAULT now(), -- for this organisation
    last_at          timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    requests         bigint NOT NULL CHECK (requests >= 0),
    cost_nano        bigint NOT NULL CHECK (cost_nano >= 0),
    PRIMARY KEY (fallback_id, organisation_id, node, currency)
);
CREATE INDEX fallback_costs_by_organisation ON fallback_costs (organisation_id, began_at);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['fallbacks', 'fallback_costs'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY migrator ON %I TO foundry_migrator USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY reader ON %I FOR SELECT TO foundry_reader USING (true)', t);
        EXECUTE format('CREATE POLICY app ON %I TO foundry_app USING (organisation_id = foundry_organisation()) WITH CHECK (organisation_id = foundry_organisation())', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE (last_at, ended_at) ON fallbacks TO foundry_app;
GRANT SELECT, INSERT, UPDATE (last_at, ended_at, requests, cost_nano) ON fallback_costs TO foundry_app;
