-- The Merkle tree over the audit log. Owner: package audit.
--
-- An entry is queued by the statement that inserts it, whoever inserts it, so
-- that none can miss the tree; the queue holds nothing but hashes. The
-- sequencer moves what is queued into audit_leaves, in one transaction. None of
-- the new tables names an organisation: they hold hashes over salted
-- commitments, which say nothing about what was hashed.
--
-- What is hashed is specified in docs/guides/auditor.md and computed again,
-- independently, by package audit (leaf.go). Both must change together, under a
-- new version byte.

-- A salt for each entry, so that nobody can guess a short body from its
-- commitment: a version 4 UUID, 122 random bits. Null: the body was erased, and
-- commitment holds what SHA-256(salt || body) was. The volatile default gives
-- each existing row a salt of its own, and works for a binary that does not
-- know of it.
ALTER TABLE audit ADD COLUMN salt bytea DEFAULT uuid_send(gen_random_uuid());
ALTER TABLE audit ADD COLUMN commitment bytea;
ALTER TABLE audit ADD CONSTRAINT audit_erased CHECK ((salt IS NULL) = (commitment IS NOT NULL));

-- What waits for the sequencer. Rows live here for less than a second.
CREATE TABLE audit_queue (
    kind  smallint NOT NULL,                       -- 1: audit, 2: journal_batches
    ref   uuid NOT NULL,                           -- 1: audit.id; 2: node, boot and first_seq, as 4, 4 and 8 bytes
    hash  bytea NOT NULL CHECK (length(hash) = 32) -- RFC 6962 leaf hash
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
GRANT SELECT, DELETE ON audit_queue TO foundry_sequencer;

-- The tree: its leaves, and every complete subtree of 2^8, 2^16, ... leaves.
-- Nodes in between are computed from at most 128 of these (RFC 9162, 2.1).
CREATE TABLE audit_leaves (
    leaf  bigint PRIMARY KEY CHECK (leaf >= 0),    -- without gaps
    kind  smallint NOT NULL,
    ref   uuid NOT NULL,
    hash  bytea NOT NULL CHECK (length(hash) = 32),
    UNIQUE (ref, kind)
);
CREATE TABLE audit_nodes (
    level smallint NOT NULL CHECK (level > 0 AND level % 8 = 0),
    n     bigint NOT NULL CHECK (n >= 0),          -- over the leaves from n * 2^level
    hash  bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, n)
);
GRANT SELECT, INSERT ON audit_leaves, audit_nodes TO foundry_sequencer;

-- Which tree this is; goes into every checkpoint. A database made anew is
-- another tree.
CREATE TABLE audit_log (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    id      uuid NOT NULL DEFAULT gen_random_uuid(),
    made_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO audit_log DEFAULT VALUES;
GRANT SELECT ON audit_log TO foundry_sequencer;

-- The newest checkpoint of each signer and hour: a later checkpoint commits to
-- everything that an earlier one does.
CREATE TABLE audit_checkpoints (
    signer  text NOT NULL,                         -- key id, hexadecimal
    hour    timestamptz NOT NULL,
    size    bigint NOT NULL,
    root    bytea NOT NULL,
    note    text NOT NULL,                         -- C2SP tlog-checkpoint with signatures
    at      timestamptz NOT NULL,
    PRIMARY KEY (signer, hour)
) WITH (fillfactor = 50);
CREATE INDEX audit_checkpoints_by_size ON audit_checkpoints (size DESC);
GRANT SELECT, INSERT, UPDATE ON audit_checkpoints TO foundry_sequencer;

-- The public keys that have signed, so that an auditor sees when one appeared.
-- The database is no authority for them: an auditor brings the key.
CREATE TABLE audit_keys (
    vkey      text PRIMARY KEY,
    role      text NOT NULL CHECK (role IN ('log', 'witness')),
    node      bigint NOT NULL,
    added_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON audit_keys TO foundry_sequencer;

-- The leaf of an entry, version 1. extract() is numeric and exact.
CREATE FUNCTION audit_enqueue() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
    AS $$
    BEGIN
        INSERT INTO audit_queue (kind, ref, hash)
        SELECT 1, f.id, sha256('\x0001'::bytea || uuid_send(f.id)
            || int8send((extract(epoch FROM f.at) * 1000000)::bigint) || uuid_send(f.organisation_id)
            || int4send(octet_length(t.actor)) || t.actor || int4send(octet_length(t.act)) || t.act
            || int4send(octet_length(t.target)) || t.target || int4send(octet_length(t.outcome)) || t.outcome
            || coalesce(f.commitment, sha256(f.salt || convert_to(f.details::text, 'UTF8'))))
          FROM fresh f, LATERAL (SELECT convert_to(f.actor, 'UTF8') AS actor, convert_to(f.act, 'UTF8') AS act,
                                        convert_to(f.target, 'UTF8') AS target, convert_to(f.outcome, 'UTF8') AS outcome OFFSET 0) t;
        RETURN NULL;
    END $$;
CREATE TRIGGER audit_enqueue AFTER INSERT ON audit
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION audit_enqueue();

-- What is there already joins the tree first.
INSERT INTO audit_queue (kind, ref, hash)
SELECT 1, f.id, sha256('\x0001'::bytea || uuid_send(f.id)
    || int8send((extract(epoch FROM f.at) * 1000000)::bigint) || uuid_send(f.organisation_id)
    || int4send(octet_length(t.actor)) || t.actor || int4send(octet_length(t.act)) || t.act
    || int4send(octet_length(t.target)) || t.target || int4send(octet_length(t.outcome)) || t.outcome
    || sha256(f.salt || convert_to(f.details::text, 'UTF8')))
  FROM audit f, LATERAL (SELECT convert_to(f.actor, 'UTF8') AS actor, convert_to(f.act, 'UTF8') AS act,
                                convert_to(f.target, 'UTF8') AS target, convert_to(f.outcome, 'UTF8') AS outcome OFFSET 0) t
 ORDER BY f.id;

-- Erases the body of an entry, in the transaction of the entry that says so:
-- the commitment stays, and the tree with it.
CREATE FUNCTION audit_erase(entry uuid, by_entry uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
    AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM audit a JOIN audit b ON b.id = entry AND b.organisation_id = a.organisation_id
                        WHERE a.id = by_entry AND a.act = 'audit.erase' AND a.target = entry::text AND a.outcome = 'done'
                          AND a.organisation_id = foundry_organisation() AND a.at = now()) THEN
            RAISE EXCEPTION 'audit_erase: no entry of this transaction authorises it';
        END IF;
        UPDATE audit SET commitment = sha256(salt || convert_to(details::text, 'UTF8')), salt = NULL, details = '{}'
         WHERE id = entry AND salt IS NOT NULL;
        RETURN FOUND;
    END $$;
REVOKE ALL ON FUNCTION audit_erase(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_erase(uuid, uuid) TO foundry_app;
REVOKE ALL ON FUNCTION audit_enqueue() FROM PUBLIC;

-- Each shipped batch of the gateway's journal is a leaf too. root is the root
-- of a tree over the rows that the batch stored (package gateway/ledger), each
-- hashed with a salt derived from salt and its place. Null: a binary of the
-- release before shipped it; such a batch commits to its records only.
ALTER TABLE journal_batches ADD COLUMN salt bytea CHECK (length(salt) = 32);
ALTER TABLE journal_batches ADD COLUMN row_hashes bytea CHECK (length(row_hashes) % 32 = 0);
ALTER TABLE journal_batches ADD COLUMN root bytea CHECK (length(root) = 32);

-- Which batch stored a row that is keyed by an earlier admission.
ALTER TABLE request_outcomes ADD COLUMN batch_boot bigint NOT NULL DEFAULT 0, ADD COLUMN batch_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE request_attempts ADD COLUMN batch_boot bigint NOT NULL DEFAULT 0, ADD COLUMN batch_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN batch_boot bigint NOT NULL DEFAULT 0, ADD COLUMN batch_seq bigint NOT NULL DEFAULT 0;

-- The leaf of a batch, version 1.
CREATE FUNCTION audit_enqueue_batch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
    AS $$
    BEGIN
        INSERT INTO audit_queue (kind, ref, hash)
        SELECT 2, encode(p.place, 'hex')::uuid,
               sha256('\x0002'::bytea || p.place || int8send(f.last_seq) || int4send(f.events)
                      || int4send(length(f.digest)) || f.digest || coalesce(f.root, '\x'::bytea))
          FROM fresh f, LATERAL (SELECT substr(int8send(f.node), 5) || substr(int8send(f.boot), 5) || int8send(f.first_seq) AS place OFFSET 0) p;
        RETURN NULL;
    END $$;
CREATE TRIGGER audit_enqueue_batch AFTER INSERT ON journal_batches
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION audit_enqueue_batch();
REVOKE ALL ON FUNCTION audit_enqueue_batch() FROM PUBLIC;

INSERT INTO audit_queue (kind, ref, hash)
SELECT 2, encode(p.place, 'hex')::uuid,
       sha256('\x0002'::bytea || p.place || int8send(f.last_seq) || int4send(f.events)
              || int4send(length(f.digest)) || f.digest)
  FROM journal_batches f, LATERAL (SELECT substr(int8send(f.node), 5) || substr(int8send(f.boot), 5) || int8send(f.first_seq) AS place OFFSET 0) p
 ORDER BY node, boot, first_seq;
