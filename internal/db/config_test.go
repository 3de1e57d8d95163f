package db_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

var connectionStrings = []struct{ name, dsn, want string }{
	{"a URL", "postgres://db.example:5432/foundry?sslmode=verify-full", ""},
	{"keywords", "host=/run/postgresql port=5432 dbname=foundry", ""},
	{"several hosts", "postgres://a:5432,b:5433/foundry?target_session_attrs=read-write", ""},
	{"a user", "postgres://me@db.example/foundry", "database-dsn-user"},
	{"a password", "host=db dbname=foundry password=canary", "database-dsn-user"},
	{"a user and password in a URL", "postgres://me:canary@db.example/foundry", "database-dsn-user"},
	{"no database", "host=db", "database-dsn-name"},
	{"nothing", "", "database-dsn-name"},
	{"a session setting, which could widen a role's rights", "host=db dbname=foundry options='-c row_security=off'", "database-dsn"},
	{"an unknown setting", "host=db dbname=foundry search_path=evil", "database-dsn"},
	{"pool settings, which are Foundry's own", "host=db dbname=foundry pool_max_conns=1000", "database-dsn"},
	{"a bad port", "host=db port=canary dbname=foundry", "database-dsn"},
	{"rubbish", "canary", "database-dsn"},
}

func TestConnectionStrings(t *testing.T) {
	t.Setenv("PGDATABASE", "") // of the shell that runs the test
	for _, c := range connectionStrings {
		t.Run(c.name, func(t *testing.T) {
			err := db.CheckDSN(c.dsn)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, c.want, "database: ")
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the sentence quotes the string, which may hold a password: %v", err)
			}
		})
	}
}

func TestOpenRefusesAWrongConfigurationAtOnce(t *testing.T) {
	t.Parallel()
	_, err := db.Open(t.Context(), db.Config{DSN: "postgres://me@db/foundry"}, nil)
	refused(t, err, "database-dsn-user")
	refused(t, db.Migrate(t.Context(), db.Config{DSN: "rubbish"}, nil), "database-dsn")
}

func TestPasswordsDoNotPrint(t *testing.T) {
	t.Parallel()
	cfg := db.Config{Users: map[db.Role]db.Login{db.App: {User: "app", Password: "canary"}}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "login", cfg.Users[db.App])
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", cfg)
	printed := fmt.Sprintf("%v %+v %#v %s %s", cfg, cfg, cfg, cfg.Users[db.App], log.String())
	if strings.Contains(printed, "canary") {
		t.Errorf("printed %s", printed)
	}
}

func TestTheShellDoesNotChangeWhatARoleDoes(t *testing.T) {
	cfg := dbtest.Config(t)
	t.Setenv("PGOPTIONS", "-c search_path=evil -c enable_seqscan=off")
	t.Setenv("PGUSER", "somebody")
	t.Setenv("PGAPPNAME", "evil")
	t.Setenv("PGDATABASE", "elsewhere")
	d := dbtest.Open(t, cfg)
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		var user, path, app, readOnly, seqscan string
		err := tx.QueryRow(t.Context(), "select current_user::text, current_setting('search_path'), current_setting('application_name'), current_setting('default_transaction_read_only'), current_setting('enable_seqscan')").
			Scan(&user, &path, &app, &readOnly, &seqscan)
		if user != "foundry_reader" || path != "public" || app != "foundry reader" || readOnly != "on" || seqscan != "on" {
			t.Errorf("signed in as %s with search_path %s as %q, read-only %s, sequential scans %s", user, path, app, readOnly, seqscan)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAClosedDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), dbtest.Config(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	d.Close()
	if err := d.Read(t.Context(), func(pgx.Tx) error { return nil }); problem.From(err).Kind != problem.Unavailable {
		t.Errorf("got %v", err)
	}
}

func FuzzConnectionString(f *testing.F) {
	for _, c := range connectionStrings {
		f.Add(c.dsn)
	}
	f.Fuzz(func(t *testing.T, dsn string) {
		if strings.Contains(dsn, "file") || strings.Contains(dsn, "ssl") || strings.Contains(dsn, "service") {
			t.Skip("would read files that it names")
		}
		err := db.CheckDSN(dsn)
		if err == nil {
			// What passes the check must be good enough to connect, and never
			// sign in as anybody but the role.
			user, options, err := db.SignsInAs(db.Config{DSN: dsn}, db.App)
			if err != nil || user != "foundry_app" || options != "" {
				t.Fatalf("%q passes the check, but signs in as %q with options %q: %v", dsn, user, options, err)
			}
		} else if p := problem.From(err); p.Kind != problem.Invalid || p.Mend == "" {
			t.Errorf("%q: %v", dsn, err)
		}
	})
}
