package db_test

import (
	"context"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// external is a server that nobody supervises, with TCP and passwords.
type external struct {
	super *pgx.Conn
	dsn   string // of the superuser
	psql  string
	port  string
}

func startExternal(t *testing.T) external {
	t.Helper()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	o.Superuser = true
	c := start(t, o)
	stop(t, c)
	port, hba := freePort(t), filepath.Join(dbtest.Dir(t), "pg_hba.conf")
	text := "local all foundry_bootstrap peer map=foundry\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(hba, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	pgCtl(t, c, "start", "-w", "-l", "/dev/null", "-o", "-c config_file="+filepath.Join(o.Dir, "etc", "postgresql.conf")+
		" -c listen_addresses=127.0.0.1 -c port="+port+" -c hba_file="+hba)
	t.Cleanup(func() { pgCtl(t, c, "stop", "-w", "-m", "fast") })
	e := external{psql: filepath.Join(c.BinDir(), "psql"), port: port,
		dsn: "host=" + filepath.Join(o.Dir, "run") + " port=" + port + " dbname=postgres user=foundry_bootstrap"}
	conn, err := pgx.Connect(t.Context(), e.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	e.super = conn
	return e
}

// pgCtl runs pg_ctl as the user of the server, past the supervisor.
func pgCtl(t *testing.T, c *db.Cluster, args ...string) {
	t.Helper()
	info, err := os.Stat(c.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(c.BinDir(), "pg_ctl"), append(args, "-s", "-D", c.DataDir())...)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_ctl %v: %v: %s", args, err, out)
	}
}

// run runs SQL with psql, as an administrator would.
func (e external) run(t *testing.T, sql string) {
	t.Helper()
	cmd := exec.Command(e.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", e.dsn)
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestAnExternalServer is set up the way an administrator would: with the
// printed SQL, passwords, and TCP.
func TestAnExternalServer(t *testing.T) {
	t.Parallel()
	e := startExternal(t)
	sql := "drop database foundry;"
	for _, role := range db.Roles {
		sql += "drop role " + string(role) + ";"
	}
	e.run(t, sql)
	e.run(t, db.RolesSQL())
	e.run(t, db.RolesSQL()) // running it again does no harm

	cfg := db.Config{DSN: "postgres://127.0.0.1:" + e.port + "/foundry?sslmode=disable", Users: map[db.Role]db.Login{}}
	for i, role := range db.Roles {
		password := "canary-" + strings.Repeat("x", i+1)
		if _, err := e.super.Exec(t.Context(), "alter role "+string(role)+" password '"+password+"'"); err != nil {
			t.Fatal(err)
		}
		cfg.Users[role] = db.Login{Password: password}
	}
	if err := db.Migrate(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	d := dbtest.Open(t, cfg)
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	t.Run("whose password is wrong is named, without the password", func(t *testing.T) {
		wrong := cfg
		wrong.Users = map[db.Role]db.Login{db.Migrator: {Password: "canary-wrong"}}
		err := db.Migrate(t.Context(), wrong, nil)
		refused(t, err, "database-login", "foundry_migrator")
		if strings.Contains(err.Error()+problem.From(err).Err.Error(), "canary") {
			t.Errorf("the password is in the error: %v", problem.From(err).Err)
		}
	})
	t.Run("without the database is named", func(t *testing.T) {
		missing := cfg
		missing.DSN = strings.Replace(cfg.DSN, "/foundry", "/elsewhere", 1)
		refused(t, db.Migrate(t.Context(), missing, nil), "database-missing", "elsewhere")
	})
	t.Run("whose login is a member of a role", func(t *testing.T) {
		if _, err := e.super.Exec(t.Context(), "create role customer login password 'canary-c' in role foundry_app"); err != nil {
			t.Fatal(err)
		}
		mapped := cfg
		mapped.Users = maps.Clone(cfg.Users)
		mapped.Users[db.App] = db.Login{User: "customer", Password: "canary-c"}
		m := dbtest.Open(t, mapped)
		if err := db.CheckRoles(t.Context(), m); err != nil {
			t.Error(err)
		}
		if _, err := e.super.Exec(t.Context(), "alter role customer superuser"); err != nil {
			t.Fatal(err)
		}
		refusedRoles(t, db.CheckRoles(t.Context(), m), "role-power", "customer", "SUPERUSER")
	})
}
