package db_test

import (
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestShippedSchemaKeepsOrganisationsApart(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckSchema(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestAFollowedPatternPassesTheCheck(t *testing.T) {
	t.Parallel()
	d := withThings(t)
	run(t, d, db.Migrator, "create view recent_things with (security_invoker = true) as select * from things")
	run(t, d, db.Migrator, "create function safe() returns int language sql security definer set search_path = public, pg_temp as 'select 1'")
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestASchemaThatLetsOrganisationsSeeEachOtherIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, breach, code string
		names              []string
	}{
		{"row-level security switched off", "alter table things disable row level security", "table-unforced", []string{"things"}},
		{"row-level security not forced", "alter table things no force row level security", "table-unforced", []string{"FORCE ROW LEVEL SECURITY"}},
		{"a table that forgot it", "create table stuff (organisation_id uuid)", "table-unforced", []string{"stuff"}},
		{"a partitioned table that forgot it", "create table stuff (organisation_id uuid) partition by hash (organisation_id)", "table-unforced", []string{"stuff"}},
		{"a table in another schema that forgot it", "create schema more; create table more.stuff (organisation_id uuid)", "table-unforced", []string{"more.stuff"}},
		{"no policy for the migrator", "drop policy migrator on things", "table-unmigratable", []string{"things"}},
		{"a policy for the migrator that shows it some rows", "alter policy migrator on things using (organisation_id = foundry_organisation())", "table-unmigratable", []string{"things"}},
		{"a policy for the migrator that lets it write some rows", "alter policy migrator on things with check (note <> '')", "table-unmigratable", []string{"things"}},
		{"a restrictive policy for everybody", "create policy less on things as restrictive using (note <> '')", "table-unmigratable", []string{"things", "restrictive"}},
		{"a policy that lets the application see all", "create policy extra on things for select to foundry_app using (true)", "policy-open", []string{"extra", "things"}},
		{"a policy that lets the application write all", "create policy extra on things for insert to foundry_app with check (true)", "policy-open", []string{"extra"}},
		{"a policy that checks reading and not writing", "drop policy app on things; create policy app on things to foundry_app using (organisation_id = foundry_organisation()) with check (true)", "policy-open", []string{"app"}},
		{"a policy for everybody", "create policy extra on things using (true)", "policy-open", []string{"extra"}},
		{"truncate granted", "grant truncate on things to foundry_app", "role-privilege", []string{"TRUNCATE", "foundry_app", "things"}},
		{"truncate granted to everybody", "grant truncate on things to public", "role-privilege", []string{"PUBLIC"}},
		{"references granted to the shipper", "grant references on things to foundry_shipper", "role-privilege", []string{"foundry_shipper"}},
		{"a reader that may write", "grant update on things to foundry_reader", "reader-writes", []string{"UPDATE", "things"}},
		{"a view that runs as its owner", "create view leak as select * from things", "view-definer", []string{"leak", "security_invoker"}},
		{"a materialised view of all organisations", "create materialized view leak as select * from things; grant select on leak to foundry_app", "view-definer", []string{"leak"}},
		{"a function with its owner's rights and the caller's names", "create function leak() returns bigint language sql security definer as 'select count(*) from things'", "function-definer", []string{"leak()"}},
		{"a volatile function of the organisation", "alter function foundry_organisation() volatile", "function-organisation", []string{"STABLE"}},
		{"a table that belongs to the application", "alter table things owner to foundry_app", "role-owner", []string{"foundry_app", "table things"}},
		{"a schema in which the application may create", "grant create on schema public to foundry_app", "role-create", []string{"foundry_app", "public"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := dbtest.Config(t)
			d := dbtest.Open(t, cfg)
			run(t, d, db.Migrator, things)
			if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), c.breach); err != nil {
				t.Fatal(err)
			}
			refusedRoles(t, db.CheckRoles(t.Context(), d), c.code, c.names...)
		})
	}
}

// refusedRoles checks a refusal of one or more breaches, each with its mend.
func refusedRoles(t *testing.T, err error, code string, names ...string) {
	t.Helper()
	p := problem.From(err)
	if p == nil || p.Code != code || p.Kind != problem.Denied {
		t.Fatalf("got %v, want %s", err, code)
	}
	if strings.Contains(p.Error(), "%!") {
		t.Errorf("%q is badly written", p)
	}
	for _, name := range names {
		if !strings.Contains(p.Error(), name) {
			t.Errorf("%q does not name %q", p, name)
		}
	}
	t.Log(p)
}

// TestARoleWithTooMuchPowerIsRefused has a server of its own, because roles
// are shared by all databases of a server.
func TestARoleWithTooMuchPowerIsRefused(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	d := dbtest.Open(t, s.Config())
	super := dbtest.Superuser(t, s.Config())
	do := func(sql string) {
		t.Helper()
		if _, err := super.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, breach, mend, code string
		names                    []string
	}{
		{"a superuser", "alter role foundry_app superuser", "alter role foundry_app nosuperuser", "role-power", []string{"foundry_app", "SUPERUSER", "ALTER ROLE foundry_app NOSUPERUSER"}},
		{"a reader that is a superuser", "alter role foundry_reader superuser", "alter role foundry_reader nosuperuser", "role-power", []string{"foundry_reader"}},
		{"a migrator that is a superuser", "alter role foundry_migrator superuser", "alter role foundry_migrator nosuperuser", "role-power", []string{"foundry_migrator"}},
		{"one that bypasses row-level security", "alter role foundry_shipper bypassrls", "alter role foundry_shipper nobypassrls", "role-power", []string{"foundry_shipper", "BYPASSRLS"}},
		{"one that makes roles", "alter role foundry_sequencer createrole", "alter role foundry_sequencer nocreaterole", "role-power", []string{"CREATEROLE"}},
		{"one that makes databases", "alter role foundry_app createdb", "alter role foundry_app nocreatedb", "role-power", []string{"CREATEDB"}},
		{"one that replicates", "alter role foundry_app replication", "alter role foundry_app noreplication", "role-power", []string{"REPLICATION"}},
		{"one that can become another", "grant foundry_migrator to foundry_app", "revoke foundry_migrator from foundry_app", "role-member", []string{"foundry_migrator", "REVOKE"}},
		{"one that may read files", "grant pg_read_server_files to foundry_reader", "revoke pg_read_server_files from foundry_reader", "role-member", []string{"pg_read_server_files"}},
	} {
		do(c.breach)
		t.Run(c.name, func(t *testing.T) { refusedRoles(t, db.CheckRoles(t.Context(), d), c.code, c.names...) })
		do(c.mend)
		if err := db.CheckRoles(t.Context(), d); err != nil {
			t.Fatalf("%s, mended: %v", c.name, err)
		}
	}
	t.Run("several breaches at once each with their mend", func(t *testing.T) {
		do("alter role foundry_app superuser bypassrls")
		defer do("alter role foundry_app nosuperuser nobypassrls")
		refusedRoles(t, db.CheckRoles(t.Context(), d), "role-power", "NOSUPERUSER", "NOBYPASSRLS")
	})
	t.Run("one that cannot sign in", func(t *testing.T) {
		do("alter role foundry_sequencer nologin")
		defer do("alter role foundry_sequencer login")
		refused(t, db.CheckRoles(t.Context(), d), "database-login", "foundry_sequencer", "foundry database roles")
	})
	t.Run("one that is missing", func(t *testing.T) {
		do("alter role foundry_sequencer rename to gone")
		defer do("alter role gone rename to foundry_sequencer")
		refused(t, db.CheckRoles(t.Context(), d), "database-login", "foundry_sequencer")
	})
}
