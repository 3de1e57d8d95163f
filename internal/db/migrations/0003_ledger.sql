-- What was asked, where it went, what it cost, what may be spent.
-- Owner: package gateway/ledger.
--
-- The shipper copies the journal into the insert-only tables; (node, boot, seq)
-- is an event's place in the journal and makes that idempotent. There are no
-- foreign keys from them: the journal says what happened, and a row must not
-- be refused because something else was deleted. They have few indexes,
-- because every request pays for each of them.
--
-- Money is in nano-units (1e-9) of a currency; the views give minor units.

-- One row for each batch of journal records shipped, in the batch's own
-- transaction: what says that the batch was shipped, and where to go on. No
-- client data.
CREATE TABLE journal_batches (
    node        bigint NOT NULL,
    boot        bigint NOT NULL,
    first_seq   bigint NOT NULL,
    last_seq    bigint NOT NULL CHECK (last_seq >= first_seq),
    events      integer NOT NULL,
    digest      bytea NOT NULL,              -- SHA-256 over the records, each after its seq and length (big endian, 8 and 4 bytes)
    shipped_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, boot, first_seq)
);
GRANT SELECT, INSERT ON journal_batches TO foundry_shipper;
-- Only which boots there were, so that a view can tell a request that is
-- running from one whose node has stopped.
GRANT SELECT (node, boot) ON journal_batches TO foundry_app;

-- Records that could not be stored: damaged, refused by the database, or
-- written by a newer binary. Sealed, because nobody knows what is in them.
CREATE TABLE journal_rejects (
    node        bigint NOT NULL,
    boot        bigint NOT NULL,
    seq         bigint NOT NULL,
    reason      text NOT NULL,
    sealed      bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, boot, seq)
);
GRANT INSERT ON journal_rejects TO foundry_shipper;

-- An admission and, when it was shipped in the same batch, its outcome.
CREATE TABLE requests (
    node              bigint NOT NULL,
    boot              bigint NOT NULL,
    seq               bigint NOT NULL,
    admitted_at       timestamptz NOT NULL,
    organisation_id   uuid NOT NULL,
    reserved_nano     bigint NOT NULL,
    class             smallint NOT NULL,     -- sovereignty.DataClass
    stream            boolean NOT NULL,
    own               boolean NOT NULL,
    leaves_eea        boolean NOT NULL,
    restricted        boolean NOT NULL,
    decision          bytea NOT NULL,
    api_key           text NOT NULL,
    endpoint          text NOT NULL,
    model             text NOT NULL,
    tier              text NOT NULL,
    provider          text NOT NULL,
    provider_model    text NOT NULL,
    jurisdiction      text NOT NULL,
    controller        text NOT NULL,
    safeguard         text NOT NULL,
    currency          text NOT NULL,
    -- The outcome: all null, or all but the last not null.
    ended_at          timestamptz,
    cost_nano         bigint,
    input_tokens      bigint,
    output_tokens     bigint,
    cached_tokens     bigint,
    cache_write_tokens bigint,
    reasoning_tokens  bigint,
    latency_us        bigint,
    first_token_us    bigint,                -- 0: there was no token
    status            smallint,
    usage_known       boolean,
    held              boolean,
    result            text,
    tries             json,                  -- null: one, to where it was admitted
    PRIMARY KEY (node, boot, seq)
);
CREATE INDEX requests_by_organisation ON requests (organisation_id, admitted_at);

-- An outcome that was shipped later than its admission.
CREATE TABLE request_outcomes (
    node              bigint NOT NULL,       -- of the admission
    boot              bigint NOT NULL,
    seq               bigint NOT NULL,
    organisation_id   uuid NOT NULL,
    ended_at          timestamptz NOT NULL,
    cost_nano         bigint NOT NULL,
    input_tokens      bigint NOT NULL,
    output_tokens     bigint NOT NULL,
    cached_tokens     bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens  bigint NOT NULL,
    latency_us        bigint NOT NULL,
    first_token_us    bigint NOT NULL,
    status            smallint NOT NULL,
    usage_known       boolean NOT NULL,
    held              boolean NOT NULL,
    result            text NOT NULL,
    tries             json,
    PRIMARY KEY (node, boot, seq)
);

-- Every destination of a request after its first.
CREATE TABLE request_attempts (
    node              bigint NOT NULL,       -- of the admission
    boot              bigint NOT NULL,
    seq               bigint NOT NULL,
    n                 smallint NOT NULL,
    organisation_id   uuid NOT NULL,
    at                timestamptz NOT NULL,
    own               boolean NOT NULL,
    leaves_eea        boolean NOT NULL,
    restricted        boolean NOT NULL,
    provider          text NOT NULL,
    provider_model    text NOT NULL,
    jurisdiction      text NOT NULL,
    controller        text NOT NULL,
    safeguard         text NOT NULL,
    PRIMARY KEY (node, boot, seq, n)
);

-- The transfer register: every call that left the EEA or was a restricted
-- transfer under the exporter's regime.
CREATE TABLE transfers (
    node              bigint NOT NULL,
    boot              bigint NOT NULL,
    seq               bigint NOT NULL,
    n                 smallint NOT NULL,     -- 1: the request's first destination
    at                timestamptz NOT NULL,
    organisation_id   uuid NOT NULL,
    class             smallint NOT NULL,
    leaves_eea        boolean NOT NULL,
    restricted        boolean NOT NULL,
    decision          bytea NOT NULL,
    api_key           text NOT NULL,
    provider          text NOT NULL,
    provider_model    text NOT NULL,
    destination       text NOT NULL,
    controller        text NOT NULL,
    safeguard         text NOT NULL,
    PRIMARY KEY (node, boot, seq, n)
);
CREATE INDEX transfers_by_organisation ON transfers (organisation_id, at);

-- Requests that were denied.
CREATE TABLE refusals (
    node              bigint NOT NULL,
    boot              bigint NOT NULL,
    seq               bigint NOT NULL,
    at                timestamptz NOT NULL,
    organisation_id   uuid NOT NULL,
    class             smallint NOT NULL,
    status            smallint NOT NULL,
    decision          bytea NOT NULL,
    api_key           text NOT NULL,
    endpoint          text NOT NULL,
    model             text NOT NULL,
    rule              text NOT NULL,
    PRIMARY KEY (node, boot, seq)
);
CREATE INDEX refusals_by_organisation ON refusals (organisation_id, at);

-- Decision traces, by content. json, not jsonb: it keeps the exact text, which
-- the hash is over.
CREATE TABLE decisions (
    organisation_id   uuid NOT NULL,
    hash              bytea NOT NULL CHECK (length(hash) = 16),
    body              json NOT NULL,
    PRIMARY KEY (organisation_id, hash)
);

-- Sums over one batch, so that usage pages and budgets never scan requests.
-- bucket is the minute of admission; older rows are folded into hours.
CREATE TABLE usage_deltas (
    organisation_id   uuid NOT NULL,
    bucket            timestamptz NOT NULL,
    node              bigint NOT NULL,       -- of the batch
    boot              bigint NOT NULL,       -- of the batch
    batch_seq         bigint NOT NULL,       -- the batch's last; below zero: folded
    n                 integer NOT NULL,
    origin_boot       bigint NOT NULL,       -- of the admissions: whose lease paid
    requests          bigint NOT NULL,       -- that ended
    errors            bigint NOT NULL,
    refusals          bigint NOT NULL,
    unknown           bigint NOT NULL,
    input_tokens      bigint NOT NULL,
    output_tokens     bigint NOT NULL,
    cached_tokens     bigint NOT NULL,
    cost_nano         bigint NOT NULL,
    held_nano         bigint NOT NULL,
    api_key           text NOT NULL,
    model             text NOT NULL,
    provider          text NOT NULL,
    jurisdiction      text NOT NULL,
    currency          text NOT NULL,
    latency           bytea,                 -- histogram; null when folded
    PRIMARY KEY (organisation_id, bucket, node, boot, batch_seq, n)
);
CREATE INDEX usage_deltas_by_time ON usage_deltas USING brin (bucket) WITH (pages_per_range = 16);

-- Limits on spending.
CREATE TABLE budgets (
    id                uuid PRIMARY KEY,
    organisation_id   uuid NOT NULL REFERENCES organisations (id),
    api_key_id        text,                  -- null: the whole organisation
    period            text NOT NULL CHECK (period IN ('day', 'month', 'total')),
    limit_nano        bigint NOT NULL CHECK (limit_nano >= 0),
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    alarm_percent     smallint NOT NULL DEFAULT 80 CHECK (alarm_percent BETWEEN 1 AND 100),
    changed_at        timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX budgets_one_of_each ON budgets (organisation_id, COALESCE(api_key_id, ''), period);

-- What each boot of each node may spend of a budget in a period. The sum of
-- granted_nano over a budget and period never exceeds the limit: a grant holds
-- the lock of the budget's row.
CREATE TABLE budget_leases (
    budget_id         uuid NOT NULL REFERENCES budgets (id) ON DELETE CASCADE,
    period_start      timestamptz NOT NULL,
    node              bigint NOT NULL,
    boot              bigint NOT NULL,
    organisation_id   uuid NOT NULL,
    granted_nano      bigint NOT NULL,       -- once closed: what was spent
    spent_nano        bigint NOT NULL,       -- as last reported
    closed_at         timestamptz,           -- the boot is over and all of its journal is shipped
    PRIMARY KEY (budget_id, period_start, node, boot)
);

-- Alarms that were raised: one for each budget and period.
CREATE TABLE budget_alarms (
    budget_id         uuid NOT NULL REFERENCES budgets (id) ON DELETE CASCADE,
    period_start      timestamptz NOT NULL,
    organisation_id   uuid NOT NULL,
    node              bigint NOT NULL,
    spent_nano        bigint NOT NULL,
    raised_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (budget_id, period_start)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['requests', 'request_outcomes', 'request_attempts', 'transfers', 'refusals',
                             'decisions', 'usage_deltas', 'budgets', 'budget_leases', 'budget_alarms'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY migrator ON %I TO foundry_migrator USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY reader ON %I FOR SELECT TO foundry_reader USING (true)', t);
    END LOOP;
    -- An organisation reads what the shipper wrote, and writes none of it.
    FOREACH t IN ARRAY ARRAY['requests', 'request_outcomes', 'request_attempts', 'transfers', 'refusals',
                             'decisions', 'usage_deltas'] LOOP
        EXECUTE format('CREATE POLICY app ON %I FOR SELECT TO foundry_app USING (organisation_id = foundry_organisation())', t);
        EXECUTE format('CREATE POLICY shipper ON %I FOR INSERT TO foundry_shipper WITH CHECK (true)', t);
        EXECUTE format('GRANT SELECT ON %I TO foundry_app', t);
        EXECUTE format('GRANT INSERT ON %I TO foundry_shipper', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['budgets', 'budget_leases', 'budget_alarms'] LOOP
        EXECUTE format('CREATE POLICY app ON %I TO foundry_app USING (organisation_id = foundry_organisation()) '
                       'WITH CHECK (organisation_id = foundry_organisation())', t);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO foundry_app', t);
    END LOOP;
END $$;
GRANT UPDATE, DELETE ON budgets TO foundry_app;
GRANT UPDATE ON budget_leases TO foundry_app;

-- One line for each request, wherever its outcome was stored.
CREATE VIEW request_log WITH (security_invoker = true) AS
SELECT r.node, r.boot, r.seq, r.admitted_at, r.organisation_id, r.api_key, r.endpoint, r.model, r.tier, r.class,
       r.stream, r.decision,
       -- Where it was answered, or where it is now.
       COALESCE(a.provider, r.provider) AS provider,
       COALESCE(a.provider_model, r.provider_model) AS provider_model,
       COALESCE(a.own, r.own) AS own,
       COALESCE(a.jurisdiction, r.jurisdiction) AS jurisdiction,
       COALESCE(a.controller, r.controller) AS controller,
       COALESCE(a.leaves_eea, r.leaves_eea) AS leaves_eea,
       COALESCE(a.restricted, r.restricted) AS restricted,
       COALESCE(a.safeguard, r.safeguard) AS safeguard,
       COALESCE(r.result, o.result) AS result,
       CASE
           WHEN COALESCE(r.result, o.result) = 'unknown' THEN 'outcome unknown'
           WHEN COALESCE(r.result, o.result) IS NOT NULL THEN COALESCE(r.result, o.result)
           -- The node has started again since, or is not coming back.
           WHEN r.admitted_at < now() - interval '1 day' THEN 'outcome unknown'
           WHEN EXISTS (SELECT FROM journal_batches b WHERE b.node = r.node AND b.boot > r.boot) THEN 'outcome unknown'
           ELSE 'in flight'
       END AS state,
       COALESCE(r.status, o.status) AS status,
       COALESCE(r.ended_at, o.ended_at) AS ended_at,
       COALESCE(r.usage_known, o.usage_known, false) AS usage_known,
       COALESCE(r.held, o.held, false) AS held,
       COALESCE(r.input_tokens, o.input_tokens, 0) AS input_tokens,
       COALESCE(r.output_tokens, o.output_tokens, 0) AS output_tokens,
       COALESCE(r.cached_tokens, o.cached_tokens, 0) AS cached_tokens,
       COALESCE(r.cache_write_tokens, o.cache_write_tokens, 0) AS cache_write_tokens,
       COALESCE(r.reasoning_tokens, o.reasoning_tokens, 0) AS reasoning_tokens,
       COALESCE(r.latency_us, o.latency_us, 0) AS latency_us,
       COALESCE(r.first_token_us, o.first_token_us, 0) AS first_token_us,
       r.currency, r.reserved_nano,
       COALESCE(r.cost_nano, o.cost_nano, 0) AS cost_nano,
       r.reserved_nano / 10000000::numeric AS reserved_minor,
       COALESCE(r.cost_nano, o.cost_nano, 0) / 10000000::numeric AS cost_minor,
       COALESCE(r.tries, o.tries) AS tries
  FROM requests r
  LEFT JOIN request_outcomes o USING (node, boot, seq)
  LEFT JOIN LATERAL (
       SELECT * FROM request_attempts t
        WHERE t.node = r.node AND t.boot = r.boot AND t.seq = r.seq ORDER BY n DESC LIMIT 1
  ) a ON true;

-- Usage by hour, in minor units.
CREATE VIEW usage_by_hour WITH (security_invoker = true) AS
SELECT organisation_id, date_trunc('hour', bucket, 'UTC') AS hour, api_key, model, provider, jurisdiction, currency,
       sum(requests)::bigint AS requests, sum(errors)::bigint AS errors, sum(refusals)::bigint AS refusals,
       sum(unknown)::bigint AS unknown, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(cached_tokens) AS cached_tokens, sum(cost_nano) / 10000000 AS cost_minor, sum(held_nano) / 10000000 AS held_minor
  FROM usage_deltas
 GROUP BY organisation_id, hour, api_key, model, provider, jurisdiction, currency;
GRANT SELECT ON request_log, usage_by_hour TO foundry_app, foundry_reader;

-- Folds the rows of past hours into one for each hour and combination, so that
-- usage_deltas grows with hours and not with batches. It keeps every sum. It
-- runs as the owner because no role may delete; each node calls it, one at a
-- time works.
CREATE FUNCTION ledger_fold(before timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
    AS $$
    DECLARE folded bigint;
    BEGIN
        IF before > now() - interval '2 hours' THEN
            RAISE EXCEPTION 'ledger_fold: the last two hours are still written to';
        END IF;
        IF NOT pg_try_advisory_xact_lock(7165423) THEN
            RETURN 0;
        END IF;
        WITH gone AS (
            DELETE FROM usage_deltas WHERE bucket < date_trunc('hour', before, 'UTC') AND batch_seq >= 0
            RETURNING *
        ), again AS (
            INSERT INTO usage_deltas
            SELECT organisation_id, date_trunc('hour', bucket, 'UTC'), node,
                   -- The key of one of the rows it stands for: no other row, folded now or
                   -- later, stands for that one.
                   (max(ARRAY[boot, batch_seq, n]))[1], -1 - (max(ARRAY[boot, batch_seq, n]))[2], (max(ARRAY[boot, batch_seq, n]))[3],
                   origin_boot, sum(requests), sum(errors), sum(refusals), sum(unknown), sum(input_tokens),
                   sum(output_tokens), sum(cached_tokens), sum(cost_nano), sum(held_nano),
                   api_key, model, provider, jurisdiction, currency, NULL
              FROM gone
             GROUP BY organisation_id, date_trunc('hour', bucket, 'UTC'), node, origin_boot,
                      api_key, model, provider, jurisdiction, currency
            RETURNING 1
        )
        SELECT count(*) INTO folded FROM gone;
        RETURN folded;
    END $$;
REVOKE ALL ON FUNCTION ledger_fold(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_fold(timestamptz) TO foundry_shipper;
