package db_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// release is a set of migrations: the real foundation, and what is given.
func release(t testing.TB, more ...string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	for i, sql := range append([]string{"-- oldest binary: 1\ncreate table schema_migrations (version integer primary key, name text not null, checksum text not null, applied_at timestamptz not null default now(), oldest_binary integer not null)"}, more...) {
		files[fmt.Sprintf("migrations/%04d_step%d.sql", i+1, i+1)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return files
}

// empty is a database in which nothing was migrated.
func empty(t testing.TB) db.Config {
	t.Helper()
	cfg := dbtest.Config(t)
	conn := dbtest.Superuser(t, cfg)
	if _, err := conn.Exec(t.Context(), "drop owned by foundry_migrator cascade; grant connect on database "+conn.Config().Database+" to foundry_migrator; alter schema public owner to pg_database_owner"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func migrated(t *testing.T, cfg db.Config, files fstest.MapFS) {
	t.Helper()
	if err := db.MigrateFS(t.Context(), cfg, dbtest.Log(t), files); err != nil {
		t.Fatal(err)
	}
}

// versions lists what schema_migrations holds: "1 2>1" is 1, and 2 which
// serves binaries that know 1.
func versions(t *testing.T, cfg db.Config) string {
	t.Helper()
	return ask(t, cfg, "select coalesce(string_agg(version || '>' || oldest_binary, ' ' order by version), '') from schema_migrations")
}

func TestMigrationsAreAppliedOnceAndInOrder(t *testing.T) {
	t.Parallel()
	cfg := empty(t)
	first := release(t, "create table a (id int)", "insert into a values (1)")
	migrated(t, cfg, first)
	migrated(t, cfg, first)
	if got := versions(t, cfg); got != "1>1 2>1 3>1" {
		t.Errorf("applied %q", got)
	}
	migrated(t, cfg, release(t, "create table a (id int)", "insert into a values (1)", "-- oldest binary: 3\ninsert into a values (2)"))
	if got := versions(t, cfg); got != "1>1 2>1 3>1 4>3" {
		t.Errorf("applied %q", got)
	}
	if got := ask(t, cfg, "select string_agg(id::text, ' ' order by id) from a"); got != "1 2" {
		t.Errorf("the table holds %q, want each row once", got)
	}
}

func TestNodesThatMigrateAtTheSameTimeTakeTurns(t *testing.T) {
	t.Parallel()
	cfg := empty(t)
	files := release(t, "create table a (id int)", "select pg_sleep(0.1); insert into a values (1)")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := db.MigrateFS(t.Context(), cfg, nil, files); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := ask(t, cfg, "select count(*)::text from a"); got != "1" {
		t.Errorf("a migration ran %s times", got)
	}
}

func TestAMigrationThatFailsLeavesNothingAndNamesItsLine(t *testing.T) {
	t.Parallel()
	cfg := empty(t)
	err := db.MigrateFS(t.Context(), cfg, nil, release(t, "create table a (id int)", "create table b (id int);\n-- köttbullar\nselect broken from a"))
	if err == nil || !strings.Contains(err.Error(), "0003_step3 line 3") || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v, want the file and the line", err)
	}
	if got := versions(t, cfg); got != "1>1 2>1" {
		t.Errorf("applied %q, want what was before the failure", got)
	}
	if got := ask(t, cfg, "select (to_regclass('b') is null)::text"); got != "true" {
		t.Error("a part of the failed migration is there")
	}
}

func TestAMigrationThatWaitsTooLongForALockGivesUp(t *testing.T) {
	t.Parallel()
	cfg := empty(t)
	migrated(t, cfg, release(t, "create table a (id int)"))
	conn := dbtest.Superuser(t, cfg)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), "lock table a"); err != nil {
		t.Fatal(err)
	}
	err = db.MigrateFS(t.Context(), cfg, nil, release(t, "create table a (id int)", "set local lock_timeout = '50ms'; alter table a add b int"))
	if code(err) != "55P03" {
		t.Errorf("got %v, want lock_not_available", err)
	}
}

func TestASchemaThatDoesNotFitTheBinaryIsRefused(t *testing.T) {
	t.Parallel()
	const a, b = "create table a (id int)", "create table b (id int)"
	for _, c := range []struct {
		name   string
		before []string // migrations in the database
		binary []string // migrations in the binary
		edit   string   // or an edit of schema_migrations
		want   string   // code, empty: fits
		says   []string
	}{
		{name: "the same", before: []string{a}, binary: []string{a}},
		{name: "a newer schema that still serves this binary", before: []string{a, b}, binary: []string{a}},
		{name: "a newer schema that no longer does", before: []string{a, "-- oldest binary: 3\n" + b}, binary: []string{a}, want: "schema-newer", says: []string{"schema 3", "knows 2"}},
		{name: "a contraction that serves the release before", before: []string{a, "-- oldest binary: 2\n" + b}, binary: []string{a}},
		{name: "an edited migration", before: []string{a}, binary: []string{b}, want: "migration-changed", says: []string{"0002_step2"}},
		{name: "only other line endings", before: []string{a + "\n"}, binary: []string{a + "\r\n"}},
		{name: "a migration slipped in before others", before: []string{a, b}, binary: []string{a, b}, edit: "delete from schema_migrations where version = 2", want: "migration-missed", says: []string{"0002_step2", "0003"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := empty(t)
			migrated(t, cfg, release(t, c.before...))
			if c.edit != "" {
				if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), c.edit); err != nil {
					t.Fatal(err)
				}
			}
			err := db.MigrateFS(t.Context(), cfg, nil, release(t, c.binary...))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, c.want, c.says...)
		})
	}
}

func TestCheckSchemaSaysWhichWayTheSchemaDiffers(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	super := dbtest.Superuser(t, cfg)
	newest := fmt.Sprint(db.SchemaVersion)
	for _, step := range []struct{ name, edit, want string }{
		{"as this binary knows it", "select 1", ""},
		{"newer, and still serving", "insert into schema_migrations (version, name, checksum, oldest_binary) values (9000, 'future', '', " + newest + ")", ""},
		{"newer, and no longer serving", "update schema_migrations set oldest_binary = 9000 where version = 9000", "schema-newer"},
		{"older", "delete from schema_migrations where version >= " + newest, "schema-older"},
	} {
		if _, err := super.Exec(t.Context(), step.edit); err != nil {
			t.Fatal(err)
		}
		err := db.CheckSchema(t.Context(), d)
		if step.want == "" {
			if err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			continue
		}
		refused(t, err, step.want, newest)
	}
}

func TestMigrationFilesAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a name without a number", map[string]string{"ledger.sql": ""}, "want a name like"},
		{"a number of three digits", map[string]string{"001_a.sql": ""}, "want a name like"},
		{"capital letters", map[string]string{"0001_A.sql": ""}, "want a name like"},
		{"the same number twice", map[string]string{"0001_a.sql": "", "0001_b.sql": ""}, "taken"},
		{"the number zero", map[string]string{"0000_a.sql": ""}, "zero"},
		{"serving only binaries of the future", map[string]string{"0001_a.sql": "-- oldest binary: 2\n"}, "want 1 to 1"},
		{"serving binaries that were given up", map[string]string{"0001_a.sql": "", "0002_b.sql": "-- oldest binary: 2\n", "0003_c.sql": "-- oldest binary: 1\n"}, "want 2 to 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, text := range c.files {
				files["migrations/"+name] = &fstest.MapFile{Data: []byte(text)}
			}
			if _, err := db.Load(files); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestABrokenReleaseIsNotApplied(t *testing.T) {
	t.Parallel()
	files := release(t)
	files["migrations/oops.sql"] = &fstest.MapFile{}
	if err := db.MigrateFS(t.Context(), db.Config{}, nil, files); err == nil {
		t.Error("applied")
	}
}

func TestAnotherNodeThatNeverFinishesMigratingIsNamed(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	super := dbtest.Superuser(t, cfg)
	if _, err := super.Exec(t.Context(), "select pg_advisory_lock($1)", db.MigrationLock); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- db.Migrate(ctx, cfg, nil) }()
	tries := map[time.Time]bool{}
	wait(t, "the migrator has asked for the lock, and again", func() bool {
		var at time.Time
		err := super.QueryRow(t.Context(), "select query_start from pg_stat_activity where datname = current_database() and usename = 'foundry_migrator' and query like '%pg_try_advisory_lock%'").Scan(&at)
		if err == nil {
			tries[at] = true
		}
		return len(tries) > 1
	})
	cancel()
	refused(t, <-result, "migration-held")
}
