package db_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// options start a cluster quickly.
func options(t testing.TB, dir string) db.ClusterOptions {
	return db.ClusterOptions{Dir: dir, Settings: dbtest.Hasty, Log: dbtest.Log(t)}
}

// start starts a cluster for the length of a test.
func start(t testing.TB, o db.ClusterOptions) *db.Cluster {
	t.Helper()
	c, err := db.StartCluster(t.Context(), o)
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t testing.TB, c *db.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

// ask is one value from the database of a cluster.
func ask(t testing.TB, cfg db.Config, sql string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), cfg.DSN+" user=foundry_migrator")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// alive reports whether a process runs. One that has ended and was not yet
// waited for by its parent does not.
func alive(pid int) bool {
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat") // "pid (name) state ..."
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// inOwnProcess starts a cluster in a child process and returns the child and
// what it printed: "ready <pid>" or "problem <code> <sentence>".
func inOwnProcess(t *testing.T, dir, socketDir string, prepare func(*exec.Cmd)) (*exec.Cmd, string) {
	t.Helper()
	encoded, err := json.Marshal(map[string]string{"Dir": dir, "SocketDir": socketDir})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+string(encoded))
	cmd.Stderr = os.Stderr
	if prepare != nil {
		prepare(cmd)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child process said %q: %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

func readyPID(t *testing.T, line string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimPrefix(line, "ready "))
	if err != nil {
		t.Fatalf("the child process said %q", line)
	}
	return pid
}

func TestPrivateClusterIsSetUpAsPromised(t *testing.T) {
	t.Parallel()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	o.Settings = map[string]string{"fsync": "off"}
	c := start(t, o)
	for setting, want := range map[string]string{
		"data_checksums": "on", "listen_addresses": "", "server_encoding": "UTF8", "synchronous_commit": "on",
		"wal_level": "replica", "jit": "off", "full_page_writes": "on", "log_statement": "none", "max_connections": "60",
		"log_parameter_max_length": "0", "unix_socket_permissions": "0700", "logging_collector": "on",
	} {
		if got := ask(t, c.Config(), "select current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if got := ask(t, c.Config(), "select datcollate from pg_database where datname = 'foundry'"); got != "C" {
		t.Errorf("texts are sorted as in %q, want C, which no update of the C library changes", got)
	}
	for dir, want := range map[string]os.FileMode{c.DataDir(): 0o700, c.LogDir(): 0o700, filepath.Join(o.Dir, "run"): 0o700, filepath.Join(o.Dir, "etc"): 0o750} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", dir, info.Mode().Perm(), want)
		}
	}
}

func TestTheSuperuserOfAPrivateClusterCannotSignIn(t *testing.T) {
	t.Parallel()
	c := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	for _, user := range []string{"foundry_bootstrap", "postgres", "root"} {
		conn, err := pgx.Connect(t.Context(), c.Config().DSN+" user="+user)
		if err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%s signed in", user)
		}
	}
}

func TestOnlyTheUserThatRunsFoundrySignsIn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("becoming another user takes root")
	}
	c := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	info, err := os.Stat(c.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t) // may reach the socket, and is still not Foundry
	cmd := exec.Command(filepath.Join(c.BinDir(), "psql"), c.Config().DSN+" user=foundry_app", "-c", "select 1")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Peer authentication failed") {
		t.Errorf("another user: %v %s", err, out)
	}
}

func TestASecondStartKeepsTheDataAndIsReadyInUnderTwoSeconds(t *testing.T) {
	t.Parallel()
	// As in earnest: on a disk, everything forced to it.
	dir, err := os.MkdirTemp("", "foundry")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	o := db.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Log: dbtest.Log(t)}
	first := time.Now()
	c := start(t, o)
	t.Logf("first start, with initdb: %v", time.Since(first))
	if err := db.Migrate(t.Context(), c.Config(), nil); err != nil {
		t.Fatal(err)
	}
	stop(t, c)
	if alive(c.PID()) {
		t.Error("the server runs after Stop")
	}
	second := time.Now()
	c = start(t, o)
	took := time.Since(second)
	t.Logf("second start: %v", took)
	if took > 2*time.Second {
		t.Errorf("ready after %v", took)
	}
	if got := ask(t, c.Config(), "select max(version)::text from schema_migrations"); got != strconv.Itoa(db.SchemaVersion) {
		t.Errorf("schema %s, want %d", got, db.SchemaVersion)
	}
}

func TestStoppingTwiceIsHarmless(t *testing.T) {
	t.Parallel()
	c := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	stop(t, c)
	stop(t, c)
}

func TestStopWithoutTimeStopsAtOnce(t *testing.T) {
	t.Parallel()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	c := start(t, o)
	pid := c.PID()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the server still runs")
	}
	start(t, o)
}

func TestTheServerStopsWhenItsSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dbtest.Dir(t), "postgres")
	child, line := inOwnProcess(t, dir, "", nil)
	pid := readyPID(t, line)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped %v after the kill", wait(t, "the server is gone", func() bool { return !alive(pid) }))
	c := start(t, options(t, dir))
	logs, err := filepath.Glob(filepath.Join(c.LogDir(), "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal("no log", err)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "received fast shutdown request") || strings.Contains(string(text), "automatic recovery") {
		t.Errorf("not an orderly shutdown:\n%s", text)
	}
}

func TestAStartRightAfterAKillTakesOver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dbtest.Dir(t), "postgres")
	for range 3 {
		child, line := inOwnProcess(t, dir, "", nil)
		readyPID(t, line)
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	start(t, options(t, dir))
}

func TestASurvivorIsStoppedBeforeANewStart(t *testing.T) {
	t.Parallel()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	c := start(t, o)
	stop(t, c)
	// A server that nobody supervises, as after a kill on a system where the
	// kernel does not pass it on.
	pgCtl(t, c, "start", "-w", "-l", "/dev/null", "-o", "-c config_file="+filepath.Join(o.Dir, "etc", "postgresql.conf"))
	text, err := os.ReadFile(filepath.Join(c.DataDir(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.ParsePidFile(string(text))
	if err != nil {
		t.Fatal(err)
	}
	survivor := db.PID(p)
	again := start(t, o)
	if alive(survivor) {
		t.Error("the survivor still runs")
	}
	if again.PID() == survivor {
		t.Error("the survivor was adopted, not replaced")
	}
}

func TestASecondClusterOnTheSameDirectorySaysWhoHoldsIt(t *testing.T) {
	t.Parallel()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	c := start(t, o)
	_, err := db.StartCluster(t.Context(), o)
	if p := problem.From(err); p.Code != "cluster-held" || !strings.Contains(p.Detail, strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v, want cluster-held by process %d", err, os.Getpid())
	}
	ask(t, c.Config(), "select 'still there'")
}

func TestAwkwardPathsWork(t *testing.T) {
	t.Parallel()
	for name, awkward := range map[string]string{
		"spaces and quotes":     `o'clock "quoted" \back`,
		"a comma":               "a,b",
		"letters beyond ASCII":  "köttbullar",
		"a path of 150 letters": strings.Repeat("a", 150),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, options(t, filepath.Join(dbtest.Dir(t), awkward, "postgres")))
			if got := ask(t, c.Config(), "select current_database()::text"); got != "foundry" {
				t.Errorf("connected to %q", got)
			}
		})
	}
}

func TestAShortSocketDirectoryIsPrivateAndRemoved(t *testing.T) {
	t.Parallel()
	c := start(t, options(t, filepath.Join(dbtest.Dir(t), strings.Repeat("b", 120))))
	pc, err := pgx.ParseConfig(c.Config().DSN)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(pc.Host)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%s has mode %v", pc.Host, info.Mode())
	}
	stop(t, c)
	if _, err := os.Stat(pc.Host); !os.IsNotExist(err) {
		t.Errorf("%s is left behind", pc.Host)
	}
}

func TestTheLogOfTheServerQuotesNobody(t *testing.T) {
	t.Parallel()
	c := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	if err := db.Migrate(t.Context(), c.Config(), nil); err != nil {
		t.Fatal(err)
	}
	d := dbtest.Open(t, c.Config())
	provoke(t, d)
	logs, err := filepath.Glob(filepath.Join(c.LogDir(), "*"))
	if err != nil || len(logs) == 0 {
		t.Fatal("no log", err)
	}
	stop(t, c)
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "ready to accept connections") {
			t.Errorf("the log says nothing at all:\n%s", text)
		}
		if strings.Contains(strings.ToLower(string(text)), "canary") {
			t.Errorf("the log quotes a statement:\n%s", text)
		}
	}
}

// provoke makes every kind of error that quotes what was sent.
func provoke(t *testing.T, d *db.DB) {
	t.Helper()
	run(t, d, db.Migrator, things)
	org := uuid.New()
	for _, sql := range []string{
		"select 'canary'::uuid", "select canary", "selct 'canary'", "do $$ begin raise warning 'canary'; end $$",
		"do $$ begin raise exception 'canary'; end $$", "select * from things where note = 'canary' and 1/0 = 1",
	} {
		if err := d.Org(t.Context(), org, func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), sql); return err }); err == nil && !strings.Contains(sql, "warning") {
			t.Errorf("%s succeeded", sql)
		}
	}
	for want := range 2 {
		if err := add(t.Context(), d, org, org, "canary"); (err != nil) != (want == 1) {
			t.Error(err)
		}
	}
	if err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select $1::text::int", "canary")
		return err
	}); err == nil {
		t.Error("a text became a number")
	}
}

func TestRolesOfAnOlderReleaseAreBroughtUpToDate(t *testing.T) {
	t.Parallel()
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	c := start(t, o)
	stop(t, c)
	if err := os.WriteFile(filepath.Join(o.Dir, "etc", "roles.sum"), []byte("older"), 0o640); err != nil {
		t.Fatal(err)
	}
	c = start(t, o)
	d := dbtest.Open(t, c.Config())
	if err := db.Migrate(t.Context(), c.Config(), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckRoles(t.Context(), d); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(filepath.Join(o.Dir, "etc", "roles.sum")); string(text) == "older\n" || len(text) < 32 {
		t.Errorf("the mark is %q", text)
	}
}

func TestAnInterruptedFirstStartLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dbtest.Dir(t), "postgres")
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if c, err := db.StartCluster(ctx, options(t, dir)); err == nil {
		stop(t, c)
		t.Skip("the machine was too fast to be interrupted")
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Error("half a data directory is there")
	}
	start(t, options(t, dir))
}

func TestABadSettingIsNamed(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string][2]string{
		"an unknown name": {"shared_bufers", "1MB"},
		"a bad value":     {"work_mem", "much"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
			o.Settings = maps.Clone(o.Settings)
			o.Settings[setting[0]] = setting[1]
			_, err := db.StartCluster(t.Context(), o)
			if p := problem.From(err); p.Code != "server-setting" || !strings.Contains(p.Detail, setting[0]) {
				t.Errorf("got %s: %v", p.Code, err)
			}
		})
	}
}

// The process id in a dead server's lock file may be somebody else's by now,
// for example another PostgreSQL server's after the machine was restarted.
func TestALockFileOfADeadServerDoesNotKeepANewOneFromStarting(t *testing.T) {
	t.Parallel()
	stranger := start(t, options(t, filepath.Join(dbtest.Dir(t), "postgres")))
	o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	c := start(t, o)
	stop(t, c)
	text := fmt.Sprintf("%d\n%s\n1700000000\n5432\n%s\n\n\nready   \n", stranger.PID(), c.DataDir(), filepath.Join(o.Dir, "run"))
	for _, path := range []string{filepath.Join(c.DataDir(), "postmaster.pid"), filepath.Join(o.Dir, "run", ".s.PGSQL.5432.lock")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(c.DataDir()); err == nil {
			st := info.Sys().(*syscall.Stat_t)
			_ = os.Chown(path, int(st.Uid), int(st.Gid))
		}
	}
	again := start(t, o)
	if again.PID() == stranger.PID() || !alive(stranger.PID()) {
		t.Error("the stranger was touched")
	}
}
