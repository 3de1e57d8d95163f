-- Several gateways on one database. Neither table names an organisation: both
-- are about the installation's own processes.

-- Which gateways there are, and when each was last seen. Owner: package
-- gateway/ledger. A gateway that has been silent for longer than it may go on
-- without the database spends nothing any more: what it leased goes back.
CREATE TABLE gateways (
    node        bigint PRIMARY KEY,
    boot        bigint NOT NULL,
    instance    uuid NOT NULL,                      -- the process: two may never run under one number
    started_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(), -- -infinity: it stopped in order
    trusts      interval NOT NULL,                  -- how long it goes on without the database
    version     text NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON gateways TO foundry_app;

-- What a node's keys must open and derive to be this installation's. Owner:
-- package keys. Neither value tells anything about a key.
CREATE TABLE installation_keys (
    name        text PRIMARY KEY CHECK (name IN ('derived', 'sealed')),
    value       bytea NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE (value, changed_at) ON installation_keys TO foundry_app;
