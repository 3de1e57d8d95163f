package db

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// isolation is a rule without which one organisation could see another. The
// query returns one row of texts for each breach, which fill detail and mend.
// @everyone are the names of all roles and logins, @running those of all but
// the migrator, @application the application's, @own the allowed memberships.
type isolation struct {
	code, query, detail, mend string
}

// userSchema is what is not PostgreSQL's own.
const userSchema = `n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\_temp%' AND n.nspname NOT LIKE 'pg\_toast\_temp%'`

// tenant is a table that holds rows of organisations, or says so by having
// row-level security.
const tenant = `c.relkind IN ('r', 'p') AND ` + userSchema + ` AND (c.relrowsecurity OR EXISTS (
	SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organisation_id' AND NOT a.attisdropped))`

var isolations = []isolation{
	{"role-missing",
		`SELECT name FROM unnest(@everyone::text[]) name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)`,
		"The database has no role %[1]s.",
		"Create it with the SQL that `foundry database roles` prints."},
	{"role-power",
		`SELECT r.rolname::text, v.what FROM pg_roles r, LATERAL (VALUES (rolsuper, 'SUPERUSER'), (rolbypassrls, 'BYPASSRLS'),
			(rolcreaterole, 'CREATEROLE'), (rolcreatedb, 'CREATEDB'), (rolreplication, 'REPLICATION')) v (has, what)
		WHERE v.has AND r.rolname = ANY (@everyone)`,
		"The database role %[1]s has %[2]s, which would let it past the walls between organisations.",
		"As an administrator: ALTER ROLE %[1]s NO%[2]s."},
	{"role-member",
		`SELECT m.rolname::text, g.rolname::text FROM pg_auth_members am JOIN pg_roles m ON m.oid = am.member JOIN pg_roles g ON g.oid = am.roleid
		WHERE m.rolname = ANY (@everyone) AND NOT (m.rolname || '>' || g.rolname) = ANY (@own::text[])`,
		"The database role %[1]s is a member of %[2]s, and could do what that role may.",
		"As an administrator: REVOKE %[2]s FROM %[1]s."},
	{"role-owner",
		`SELECT DISTINCT r.rolname::text, pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
		WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
		  AND r.rolname = ANY (@running)`,
		"The database role %[1]s owns %[2]s; an owner can switch row-level security off.",
		"As an administrator: REASSIGN OWNED BY %[1]s TO foundry_migrator."},
	{"role-create",
		`SELECT r.rolname::text, n.nspname::text FROM pg_roles r, pg_namespace n
		WHERE r.rolname = ANY (@running) AND ` + userSchema + ` AND has_schema_privilege(r.oid, n.oid, 'CREATE') AND NOT r.rolsuper`,
		"The database role %[1]s may create objects in schema %[2]s, and could put its own in the place of real ones.",
		"As an administrator: REVOKE CREATE ON SCHEMA %[2]s FROM %[1]s, PUBLIC."},
	{"backup-power",
		`SELECT r.rolname::text, v.what FROM pg_roles r, LATERAL (VALUES (rolsuper, 'SUPERUSER'), (rolbypassrls, 'BYPASSRLS'),
			(rolcreaterole, 'CREATEROLE'), (rolcreatedb, 'CREATEDB'), (rolreplication, 'REPLICATION')) v (has, what)
		WHERE v.has AND r.rolname = 'foundry_backup'
		UNION SELECT m.rolname::text, 'membership in ' || g.rolname FROM pg_auth_members am JOIN pg_roles m ON m.oid = am.member JOIN pg_roles g ON g.oid = am.roleid
		WHERE m.rolname = 'foundry_backup' AND g.rolname NOT IN ('pg_read_all_settings', 'pg_checkpoint')`,
		"The database role %[1]s has %[2]s, but is only to begin and end backups.",
		"As an administrator: ALTER ROLE %[1]s NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION, and REVOKE its memberships."},
	{"table-unforced",
		`SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE ` + tenant + ` AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`,
		"The table %[1]s holds rows of organisations, but row-level security is not enabled and forced on it.",
		"As foundry_migrator: ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY."},
	{"table-unmigratable",
		`SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE ` + tenant + ` AND NOT EXISTS (SELECT FROM pg_policy p, pg_roles r WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive
			AND r.oid = ANY (p.polroles) AND r.rolname = 'foundry_migrator'
			AND pg_get_expr(p.polqual, p.polrelid) = 'true' AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true')
		UNION SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_policy p ON p.polrelid = c.oid
		WHERE ` + tenant + ` AND NOT p.polpermissive AND (0 = ANY (p.polroles) OR EXISTS (SELECT FROM pg_roles r WHERE r.oid = ANY (p.polroles) AND r.rolname = 'foundry_migrator'))`,
		"The table %[1]s has no policy that shows foundry_migrator every row, so a later migration would find some or none and say nothing.",
		"As foundry_migrator: CREATE POLICY migrator ON %[1]s TO foundry_migrator USING (true) WITH CHECK (true), and no restrictive policy for it."},
	{"policy-open",
		`SELECT p.polname::text, c.oid::regclass::text FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
		WHERE p.polpermissive AND (0 = ANY (p.polroles) OR EXISTS (SELECT FROM pg_roles r WHERE r.oid = ANY (p.polroles) AND r.rolname = ANY (@application)))
		  AND (p.polqual IS NULL AND p.polwithcheck IS NULL
		    OR coalesce(pg_get_expr(p.polqual, p.polrelid), 'foundry_organisation()') !~ 'foundry_organisation\(\)'
		    OR coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'foundry_organisation()') !~ 'foundry_organisation\(\)')`,
		"The policy %[1]s on table %[2]s lets the application see or write rows whatever their organisation.",
		"As foundry_migrator: DROP POLICY %[1]s ON %[2]s, or compare the row's organisation with foundry_organisation() in its USING and WITH CHECK."},
	{"role-privilege",
		`SELECT r.rolname::text, v.what, c.oid::regclass::text FROM pg_roles r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
			LATERAL (VALUES ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')) v (what)
		WHERE r.rolname = ANY (@running) AND NOT r.rolsuper AND c.relkind IN ('r', 'p') AND ` + userSchema + `
		  AND has_table_privilege(r.oid, c.oid, v.what)`,
		"The database role %[1]s has %[2]s on table %[3]s, which row-level security does not cover.",
		"As foundry_migrator: REVOKE %[2]s ON %[3]s FROM %[1]s, PUBLIC."},
	{"reader-writes",
		`SELECT v.what, c.oid::regclass::text FROM pg_roles r, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
			LATERAL (VALUES ('INSERT'), ('UPDATE'), ('DELETE')) v (what)
		WHERE r.rolname = 'foundry_reader' AND NOT r.rolsuper AND c.relkind IN ('r', 'p') AND ` + userSchema + `
		  AND has_table_privilege(r.oid, c.oid, v.what)`,
		"The database role foundry_reader has %[1]s on table %[2]s, but is only to read.",
		"As foundry_migrator: REVOKE %[1]s ON %[2]s FROM foundry_reader, PUBLIC."},
	{"view-definer",
		`SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE ` + userSchema + ` AND (c.relkind = 'm' AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = ANY (@application) AND has_table_privilege(r.oid, c.oid, 'SELECT'))
			OR c.relkind = 'v' AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes'], false))
		  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')`,
		"The view %[1]s reads its tables as its owner, who sees every organisation.",
		"As foundry_migrator: ALTER VIEW %[1]s SET (security_invoker = true); a materialised view cannot be mended and has to go."},
	{"function-definer",
		`SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE ` + userSchema + ` AND p.prosecdef AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\_path=%')
		  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = p.oid AND x.deptype = 'e')`,
		"The function %[1]s runs with its owner's rights, but finds names by the caller's search path.",
		"As foundry_migrator: ALTER FUNCTION %[1]s SET search_path = public, pg_temp."},
	{"function-organisation",
		`SELECT 'foundry_organisation()' WHERE NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname = 'public' AND p.proname = 'foundry_organisation' AND p.pronargs = 0 AND p.provolatile = 's' AND NOT p.prosecdef)`,
		"The function %[1]s, which every policy asks for the organisation, is missing or not STABLE.",
		"As foundry_migrator: migrate, or ALTER FUNCTION %[1]s STABLE."},
}

// CheckRoles refuses to run when the database does not keep organisations
// apart, and says which role or table is at fault and what mends it. Each role
// signs in once.
func CheckRoles(ctx context.Context, d *DB) error {
	if err := d.signIn(ctx); err != nil {
		return err
	}
	var found []breach
	err := d.Read(ctx, func(tx pgx.Tx) error {
		args := d.cfg.names()
		for _, rule := range isolations {
			breaches, err := rule.find(ctx, tx, args)
			if err != nil {
				return fmt.Errorf("checking the rule %s: %w", rule.code, err)
			}
			found = append(found, breaches...)
			if rule.code == "role-missing" && len(found) > 0 {
				break // the other rules would stumble over it
			}
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		return err
	}
	return refuse(found)
}

type breach struct{ code, detail, mend string }

func (rule isolation) find(ctx context.Context, tx pgx.Tx, args pgx.NamedArgs) ([]breach, error) {
	rows, _ := tx.Query(ctx, rule.query, args)
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (breach, error) {
		values, err := r.Values()
		return breach{rule.code, fmt.Sprintf(rule.detail, values...), fmt.Sprintf(rule.mend, values...)}, err
	})
}

// refuse shows every breach up to a readable number, each with its mend.
func refuse(found []breach) error {
	const most = 5
	var b strings.Builder
	for i, f := range found[:min(len(found), most)] {
		if i > 0 {
			b.WriteString(" " + f.detail)
		} else {
			b.WriteString(f.detail)
		}
		if len(found) > 1 {
			b.WriteString(" " + f.mend)
		}
	}
	if more := len(found) - most; more > 0 {
		fmt.Fprintf(&b, " And %d more.", more)
	}
	e := problem.New(problem.Denied, found[0].code, b.String())
	if len(found) == 1 {
		e.Mend = found[0].mend
	}
	return e
}

// names lists roles and logins for the rules.
func (c Config) names() pgx.NamedArgs {
	var everyone, running, application []string
	own := []string{} // not nil: nothing is unlike all of NULL
	for _, role := range Roles {
		names := []string{string(role)}
		if login := c.login(role).User; login != string(role) {
			names = append(names, login)
			own = append(own, login+">"+string(role))
		}
		everyone = append(everyone, names...)
		if role != Migrator {
			running = append(running, names...)
		}
		if role == App {
			application = names
		}
	}
	return pgx.NamedArgs{"everyone": everyone, "running": running, "application": application, "own": own}
}

// signIn tries each role's login once, on a connection of its own.
func (d *DB) signIn(ctx context.Context) error {
	for _, role := range Roles {
		if role == Migrator && d.cfg.Find != nil {
			continue // only where the server runs
		}
		pc, err := d.cfg.pool(role)
		if err != nil {
			return err
		}
		conn, err := d.dial(ctx, pc)
		if err != nil {
			return unavailable(fmt.Errorf("signing in as %s: %w", role, err))
		}
		version := conn.PgConn().ParameterStatus("server_version")
		err = conn.Close(ctx)
		if major := leadingNumber(version); major < MinimumMajor {
			return problem.New(problem.Unsupported, "server-too-old", fmt.Sprintf(
				"The database server is PostgreSQL %s; Foundry needs %d or newer.", version, MinimumMajor)).
				WithMend("Upgrade the server.")
		}
		if err != nil {
			return unavailable(err)
		}
	}
	return nil
}

func leadingNumber(s string) int {
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int(r-'0')
	}
	return n
}
