package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// archiving starts clusters that copy their WAL into a directory.
func archiving(t *testing.T) (o db.ClusterOptions, archive string) {
	t.Helper()
	account, err := db.FindAccount("")
	if err != nil {
		t.Fatal(err)
	}
	archive = filepath.Join(dbtest.Dir(t), "archive")
	if err := account.Mkdir(archive); err != nil {
		t.Fatal(err)
	}
	o = options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	o.Superuser = true
	o.Archive = &db.Archive{Timeout: 17 * time.Second, Command: func(data string) string {
		if !strings.HasPrefix(data, o.Dir) {
			t.Errorf("the command is asked for %s", data)
		}
		return "cp %p '" + archive + "/%f'"
	}}
	return o, archive
}

// switchSegment writes something, finishes the segment and returns its name.
func switchSegment(t *testing.T, c *db.Cluster) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.Config().DSN+" user=foundry_bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var name string
	if err := conn.QueryRow(t.Context(), "select pg_walfile_name(pg_create_restore_point('test'))").Scan(&name); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "select pg_switch_wal()"); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestArchivingIsOnWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	o, archive := archiving(t)
	c := start(t, o)
	for setting, want := range map[string]string{"archive_mode": "on", "archive_timeout": "17s"} {
		if got := ask(t, c.Config(), "select current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	name := switchSegment(t, c)
	wait(t, "the segment is archived", func() bool {
		_, err := os.Stat(filepath.Join(archive, name))
		return err == nil
	})
	plain := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	if got := ask(t, plain.Config(), "select current_setting('archive_mode')"); got != "off" {
		t.Errorf("without being asked for, archive_mode is %q", got)
	}
}

// The server that sets the roles right works without the configuration of the
// real one. What waits for an archive that is away is no waste for it.
func TestSettingRolesRightLeavesNoGapInTheArchive(t *testing.T) {
	t.Parallel()
	o, archive := archiving(t)
	for n := range 3 {
		away := o
		if n > 0 {
			away.Archive = &db.Archive{}
		}
		c := start(t, away)
		for range 3 {
			switchSegment(t, c)
		}
		stop(t, c)
		if err := os.WriteFile(filepath.Join(o.Dir, "etc", "roles.sum"), []byte("older"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, o)
	last := switchSegment(t, c)
	var names []string
	wait(t, "the last segment is archived", func() bool {
		files, err := os.ReadDir(archive)
		if err != nil {
			t.Fatal(err)
		}
		names = nil
		for _, f := range files {
			names = append(names, f.Name())
		}
		return slices.Contains(names, last)
	})
	slices.Sort(names)
	var first, end int
	if _, err := fmt.Sscanf(names[0][16:], "%X", &first); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(last[16:], "%X", &end); err != nil {
		t.Fatal(err)
	}
	for n := first; n <= end; n++ {
		if name := fmt.Sprintf("%s%08X", last[:16], n); !slices.Contains(names, name) {
			t.Errorf("segment %s is not archived; there are %q", name, names)
		}
	}
}

// asBackup runs one statement as foundry_backup, by the server's own account.
func asBackup(t *testing.T, c *db.Cluster, database, sql string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.BinDir(), "psql"), "-X", "-A", "-t", "-h", c.SocketDir(), "-U", "foundry_backup", "-d", database, "-c", sql)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/bin:/bin"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.Account().Credential()}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestTheBackupRoleMayBackUpAndNothingElse(t *testing.T) {
	t.Parallel()
	o, _ := archiving(t)
	c := start(t, o)
	if err := db.Migrate(t.Context(), c.Config(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(filepath.Join(c.BinDir(), "psql")); err != nil {
		t.Skip("there is no psql")
	}
	for _, sql := range []string{
		"select pg_switch_wal()", "select pg_create_restore_point('a')", "checkpoint",
		"select pg_backup_start('test', true)", "select setting from pg_settings where name = 'data_directory'",
	} {
		if out, err := asBackup(t, c, db.MaintenanceDatabase, sql); err != nil || out == "" && sql[:6] == "select" {
			t.Errorf("%s: %s, %v", sql, out, err)
		}
	}
	for _, sql := range []string{
		"create table t (a int)", "select * from pg_authid", "create role other", "alter system set archive_command = 'false'", "select pg_reload_conf()",
		"select pg_read_file('PG_VERSION')", "copy (select 1) to program 'id'", "set role foundry_migrator", "create database d",
	} {
		if out, err := asBackup(t, c, db.MaintenanceDatabase, sql); err == nil {
			t.Errorf("%s succeeded: %s", sql, out)
		}
	}
	if out, err := asBackup(t, c, "foundry", "select 1"); err == nil {
		t.Errorf("it enters Foundry's database: %s", out)
	}
	if os.Geteuid() == 0 { // who is not the server's account
		conn, err := pgx.Connect(t.Context(), strings.Replace(c.Config().DSN, "dbname=foundry", "dbname=postgres", 1)+" user=foundry_backup")
		if err == nil {
			_ = conn.Close(t.Context())
			t.Error("another user of the machine signs in as foundry_backup")
		}
	}
	d := dbtest.Open(t, c.Config())
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Error(err)
	}
	super := dbtest.Superuser(t, c.Config())
	if _, err := super.Exec(t.Context(), "grant pg_read_all_data to foundry_backup"); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckRoles(t.Context(), d); problem.From(err).Code != "backup-power" {
		t.Errorf("got %v, want backup-power", err)
	}
}

func TestARestoreThatWasNotReplayedIsNotStarted(t *testing.T) {
	t.Parallel()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	c := start(t, o)
	stop(t, c)
	for _, name := range []string{"recovery.signal", "standby.signal"} {
		signal := filepath.Join(c.DataDir(), name)
		if err := os.WriteFile(signal, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := db.StartCluster(t.Context(), o); problem.From(err).Code != "recovery-unfinished" || problem.From(err).Mend == "" {
			t.Errorf("%s: got %v", name, err)
		}
		if err := os.Remove(signal); err != nil {
			t.Fatal(err)
		}
	}
	// What a restore left in postgresql.auto.conf would win over ours.
	left := filepath.Join(c.DataDir(), "postgresql.auto.conf")
	if err := os.WriteFile(left, []byte("archive_mode = 'on'\nrestore_command = 'false'\nlisten_addresses = '127.0.0.1'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c = start(t, o)
	for setting, want := range map[string]string{"archive_mode": "off", "restore_command": "", "listen_addresses": ""} {
		if got := ask(t, c.Config(), "select current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

func TestTheAccountIsTheOneThatRunsTheServer(t *testing.T) {
	t.Parallel()
	a, err := db.FindAccount("")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := a.IDs()
	dir := filepath.Join(dbtest.Dir(t), "between", "its")
	if err := errors.Join(a.Mkdir(dir), a.Mkdir(dir), a.Reaches(dir), a.Reaches(filepath.Join(dir, "not", "yet"))); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != uid || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is user %d's with %v", st.Uid, info.Mode())
	}
	if a.Credential() == nil {
		t.Skip("this process is the account itself")
	}
	closed := filepath.Join(dbtest.Dir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if p := problem.From(a.Reaches(filepath.Join(closed, "below"))); p.Code != "cluster-unreachable" || !strings.Contains(p.Detail, closed) {
		t.Errorf("got %v", p)
	}
}
