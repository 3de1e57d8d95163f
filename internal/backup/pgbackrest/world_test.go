package pgbackrest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/pgbackrest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

const limit = 3 * time.Minute

// settings are for a cluster whose WAL is to be archived: a killed process
// loses nothing of it, a killed machine may.
var settings = map[string]string{"fsync": "off", "autovacuum": "off", "shared_buffers": "32MB", "max_connections": "40", "max_wal_size": "256MB"}

// node is a private cluster with its engine, as a node has them.
type node struct {
	t       testing.TB
	dir     string
	pass    string
	options pgbackrest.Options
	engine  *pgbackrest.Engine
	cluster *db.Cluster
	log     *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// directory is a directory target.
func directory(t testing.TB, name, path string) target.Target {
	t.Helper()
	if err := os.MkdirAll(path, 0o711); err != nil {
		t.Fatal(err)
	}
	at, err := target.Open(target.Config{Name: name, Kind: target.Directory, Path: path}, "backup.targets[0]")
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// newNode starts a cluster that archives to the targets.
func newNode(t testing.TB, targets ...target.Target) *node {
	t.Helper()
	n := &node{t: t, dir: dbtest.Dir(t), pass: secret(t), log: &safeBuffer{}}
	account, err := db.FindAccount("")
	if err != nil {
		t.Fatal(err)
	}
	n.options = pgbackrest.Options{
		Targets: targets, Dir: filepath.Join(n.dir, "pgbackrest"), Account: account, Runtime: runtimeFor(t, n.dir),
		Passphrase: func(_ context.Context, at target.Target) (string, error) { return n.pass + at.Name, nil },
		Server: func() (pgbackrest.Server, bool) {
			if n.cluster == nil || n.cluster.PID() == 0 {
				return pgbackrest.Server{}, false
			}
			return pgbackrest.Of(n.cluster), true
		},
		Log: slog.New(slog.NewTextHandler(n.log, nil)),
	}
	if n.engine, err = pgbackrest.New(t.Context(), n.options); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.exec("create table marks (id bigserial, mark text); create table bulk (b bytea); alter table bulk alter b set storage external; grant select on marks to foundry_reader")
	return n
}

func runtimeFor(t testing.TB, data string) *engine.Runtime {
	t.Helper()
	r, err := engine.OpenRuntime("", data+rand.Text(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func secret(t testing.TB) string {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func (n *node) clusterOptions() db.ClusterOptions {
	return db.ClusterOptions{Dir: filepath.Join(n.dir, "postgres"), Settings: settings, Superuser: true, Log: n.options.Log,
		Archive: &db.Archive{Command: n.engine.ArchiveCommand, Timeout: time.Minute}}
}

func (n *node) start() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := db.StartCluster(ctx, n.clusterOptions())
	if err != nil {
		n.t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	n.cluster = c
	n.t.Cleanup(n.stop)
}

func (n *node) stop() {
	if n.cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := n.cluster.Stop(ctx); err != nil {
		n.t.Errorf("stopping: %v", err)
	}
	n.cluster = nil
}

func connect(ctx context.Context, c *db.Cluster) (*pgx.Conn, error) {
	return pgx.Connect(ctx, c.Config().DSN+" user=foundry_bootstrap")
}

func superuser(t testing.TB, c *db.Cluster) *pgx.Conn {
	t.Helper()
	conn, err := connect(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (n *node) exec(sql string, args ...any) {
	n.t.Helper()
	conn := superuser(n.t, n.cluster)
	defer conn.Close(context.Background())
	if len(args) == 0 {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			n.t.Fatal(err)
		}
		return
	}
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) write(t testing.TB, mark string) {
	t.Helper()
	n.exec("insert into marks (mark) values ($1)", mark)
}

// switchSegment finishes the current segment and returns its name.
func (n *node) switchSegment(t testing.TB) (name string) {
	t.Helper()
	conn := superuser(t, n.cluster)
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), "select pg_walfile_name(pg_switch_wal())").Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// settle waits until all WAL written so far is at a target. The mark after the
// switch is a commit that a restore to a time can stop at.
func (n *node) settle(t testing.TB, at target.Target) {
	t.Helper()
	segment := n.switchSegment(t)
	until(t, "the WAL is archived", func() bool {
		a, err := n.engine.Archive(context.Background(), at)
		if err != nil {
			t.Fatal(err)
		}
		newest, ok := a.Newest()
		return ok && newest.Name >= segment
	})
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-end.C:
			t.Fatalf("timed out waiting until %s", what)
		case <-tick.C:
		}
	}
}

// place is where a copy may be restored to.
func place(t testing.TB) string { return filepath.Join(dbtest.Dir(t), "copy", "data") }

// read starts a restored copy and reads the marks.
func read(t testing.TB, restored string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := db.StartRestored(ctx, db.RestoredOptions{Dir: filepath.Dir(restored)})
	if err != nil {
		t.Fatalf("starting the copy: %v (%v)", err, errors.Unwrap(err))
	}
	defer func() { _ = c.Stop(context.WithoutCancel(ctx)) }()
	return marksOf(t, c)
}

func marksOf(t testing.TB, c *db.Cluster) []string {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), c.Config().DSN+" user=foundry_reader")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, _ := conn.Query(context.Background(), "select mark from marks order by id")
	marks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

func filesBelow(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// another is the engine of another process on the same node.
func (n *node) another(t testing.TB, change func(*pgbackrest.Options)) *pgbackrest.Engine {
	t.Helper()
	o := n.options
	o.Runtime = runtimeFor(t, n.dir)
	if change != nil {
		change(&o)
	}
	e, err := pgbackrest.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
