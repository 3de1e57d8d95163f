-- Which node ran the fleet's database as its primary, and from which epoch on.
-- Owner: package db.
--
-- Platform-wide, hence without organisation_id: it says nothing about anybody's
-- data. Only the owner writes, which signs in over the primary's own socket and
-- from nowhere else: a gateway can be told no epoch by another gateway. Every
-- gateway reads it when it connects and refuses a database whose highest epoch
-- is below the fleet's, since that one has had a successor.

CREATE TABLE fleet_epoch (
    epoch     bigint PRIMARY KEY CHECK (epoch > 0),
    node      text NOT NULL,
    taken_at  timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT ON fleet_epoch TO foundry_app, foundry_shipper, foundry_sequencer;
