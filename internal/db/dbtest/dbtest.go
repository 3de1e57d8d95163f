// Package dbtest knows how to give each test a real PostgreSQL database of its own.
//
// A package that stores something has
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
// and each of its tests calls [New] for a migrated database that nobody else
// uses. Tests that stop or kill the server start one of their own with
// [NewServer].
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
)

// limit bounds every step of preparing a server.
const limit = 2 * time.Minute

// Hasty are settings for servers that need not survive the machine: nothing
// is forced to disk.
var Hasty = map[string]string{
	"fsync": "off", "full_page_writes": "off", "autovacuum": "off",
	"shared_buffers": "32MB", "max_connections": "200", "max_wal_size": "256MB",
	"dynamic_shared_memory_type": "mmap", // in the data directory, and gone with it, however the server ends
}

// shared is the cluster of this test process, made when first needed.
var shared = sync.OnceValues(startShared)

type sharedServer struct {
	dir     string
	cluster *db.Cluster
	copies  sync.Mutex // CREATE DATABASE from one template, one at a time
	serial  atomic.Int64
}

// Main runs the tests of a package, with one throw-away cluster that starts
// when the first test asks for it and is removed at the end.
func Main(m *testing.M) {
	code := m.Run()
	End()
	os.Exit(code)
}

// End removes the throw-away cluster, for a TestMain with more to clear away.
func End() {
	if !used.Load() {
		return
	}
	if s, err := shared(); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		_ = s.cluster.Stop(ctx)
		cancel()
		_ = os.RemoveAll(s.dir)
	}
}

var used atomic.Bool

func startShared() (*sharedServer, error) {
	used.Store(true)
	removeAbandoned()
	dir, err := tempDir()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := db.StartCluster(ctx, db.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Settings: Hasty, Superuser: true})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	if err := db.Migrate(ctx, c.Config(), nil); err != nil {
		_ = c.Stop(ctx)
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return &sharedServer{dir: dir, cluster: c}, nil
}

// New returns a fresh, migrated database that the test has to itself. It is
// closed and dropped when the test ends.
func New(t testing.TB) *db.DB {
	t.Helper()
	return Open(t, Config(t))
}

// Open opens a database for the length of a test.
func Open(t testing.TB, cfg db.Config) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), cfg, Log(t))
	if err != nil {
		t.Fatalf("opening a test database: %v", err)
	}
	t.Cleanup(d.Close)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := d.WaitHealthy(ctx); err != nil {
		t.Fatalf("waiting for a test database: %v", errors.Join(err, errors.Unwrap(err)))
	}
	return d
}

// Config returns how to reach a fresh, migrated database, which is dropped
// when the test ends.
func Config(t testing.TB) db.Config {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("starting the test database server: %v (%v)", err, errors.Unwrap(err))
	}
	name := "t" + strconv.FormatInt(s.serial.Add(1), 10)
	err = s.admin(func(ctx context.Context, conn *pgx.Conn) error {
		s.copies.Lock()
		defer s.copies.Unlock()
		if _, err := conn.Exec(ctx, "create database "+name+" owner foundry_migrator template foundry strategy file_copy"); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "revoke all on database "+name+" from public;"+
			"grant connect on database "+name+" to foundry_migrator, foundry_app, foundry_shipper, foundry_reader, foundry_sequencer")
		return err
	})
	if err != nil {
		t.Fatalf("making a test database: %v", err)
	}
	t.Cleanup(func() {
		err := s.admin(func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "drop database "+name+" with (force)")
			return err
		})
		if err != nil {
			t.Errorf("dropping a test database: %v", err)
		}
	})
	cfg := s.cluster.Config()
	cfg.DSN = dsnFor(cfg.DSN, name)
	return cfg
}

// Superuser connects to the database of a configuration made by this package
// past all walls, to look at or to break what no role of Foundry may.
func Superuser(t testing.TB, cfg db.Config) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), cfg.DSN+" user=foundry_bootstrap")
	if err != nil {
		t.Fatalf("connecting as superuser: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// admin runs fn as superuser, connected to the maintenance database.
func (s *sharedServer) admin(fn func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsnFor(s.cluster.Config().DSN, "postgres")+" user=foundry_bootstrap")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return fn(ctx, conn)
}

// dsnFor names another database in a connection string of a private cluster,
// where the name comes last.
func dsnFor(dsn, name string) string {
	return dsn[:strings.LastIndex(dsn, "dbname=")] + "dbname=" + name
}

// Log returns a logger that writes to the test's log.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

const prefix = "foundry-dbtest-"

// roots are where throw-away servers may live: in memory, where a database is
// copied in 10 ms instead of 300, or else on disk.
func roots() []string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err == nil && fs.Bavail*uint64(fs.Bsize) > 2<<30 {
		return []string{"/dev/shm", os.TempDir()}
	}
	return []string{os.TempDir()}
}

// tempDir makes a directory whose name tells which process uses it, and which
// the unprivileged user of the server may pass through.
func tempDir() (string, error) {
	dir, err := os.MkdirTemp(roots()[0], prefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// Dir returns a directory, removed when the test ends, that the unprivileged
// user of a server may pass through, unlike t.TempDir.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := tempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// removeAbandoned removes what killed test processes left behind. Their
// servers have stopped by themselves.
func removeAbandoned() {
	var dirs []string
	for _, root := range roots() {
		match, _ := filepath.Glob(filepath.Join(root, prefix+"*")) // a well-formed pattern
		dirs = append(dirs, match...)
	}
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		n, err := strconv.Atoi(pid)
		if err == nil && n > 1 && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}

// Server is a cluster that one test stops, kills and starts again.
type Server struct {
	t       testing.TB
	options db.ClusterOptions
	cluster *db.Cluster
	cfg     db.Config
}

// NewServer starts a migrated cluster for one test. It forces commits to disk
// only in so far as a kill of the server needs it: a killed process loses
// nothing that it gave to the operating system.
func NewServer(t testing.TB) *Server {
	t.Helper()
	dir := Dir(t)
	s := &Server{t: t, options: db.ClusterOptions{
		Dir: filepath.Join(dir, "postgres"), Settings: Hasty, Superuser: true, Log: Log(t)}}
	t.Cleanup(s.Stop)
	s.Start()
	if err := db.Migrate(t.Context(), s.cfg, nil); err != nil {
		t.Fatalf("migrating a test server: %v", err)
	}
	return s
}

// Config returns how to reach it; it stays the same across restarts.
func (s *Server) Config() db.Config { return s.cfg }

// Cluster returns the running cluster, nil while it is stopped.
func (s *Server) Cluster() *db.Cluster { return s.cluster }

// Stop shuts the server down, as for maintenance.
func (s *Server) Stop() {
	s.t.Helper()
	if s.cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.cluster.Stop(ctx); err != nil {
		s.t.Errorf("stopping a test server: %v", err)
	}
	s.cluster = nil
}

// Start starts it again.
func (s *Server) Start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := db.StartCluster(ctx, s.options)
	if err != nil {
		s.t.Fatalf("starting a test server: %v (%v)", err, errors.Unwrap(err))
	}
	s.cluster, s.cfg = c, c.Config()
}

// Kill kills the server with SIGKILL. It comes back by itself.
func (s *Server) Kill() { s.Signal(syscall.SIGKILL) }

// Signal sends the server a signal, such as SIGSTOP to freeze it.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	pid := s.cluster.PID()
	if pid == 0 {
		s.t.Fatal("the server is not running")
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatal(fmt.Errorf("signalling the server: %w", err))
	}
}

// SignalAll sends a signal to the server and to every process it has started:
// with SIGSTOP nothing answers any more, but no connection closes.
func (s *Server) SignalAll(sig syscall.Signal) {
	s.t.Helper()
	pid := strconv.Itoa(s.cluster.PID())
	s.Signal(sig)
	children, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		s.t.Skipf("the children of a process cannot be listed here: %v", err)
	}
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, sig) // it may be gone already
		}
	}
}
