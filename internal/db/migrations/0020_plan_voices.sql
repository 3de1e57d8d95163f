-- As whom a voice on a continuity plan was given: the name that the plan gives
-- the person who approves it. Empty where no plan named anybody with an
-- account. Owner: package governance, as of all of 0014_plan.sql.
ALTER TABLE plan_decisions ADD COLUMN person text NOT NULL DEFAULT '' CHECK (length(person) <= 100);
