-- Which certificate authority a gateway's certificate is of: the fingerprint of
-- its certificate, which every client sees. Empty: an operator's own.
ALTER TABLE gateways ADD COLUMN authority text NOT NULL DEFAULT '';
