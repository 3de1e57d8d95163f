// Package scratchtest knows how to back a test's database up with nothing but
// cp: the plainest engine that is honest. Tests damage what it made, or wrap it
// in lies, to see whether the proofs notice.
package scratchtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// Plain is an engine of copies. Its targets are directories, which have to be
// prepared before the server of New archives into them.
type Plain struct {
	Server  *db.Cluster
	Archive string // where the server archives its log to

	mu     sync.Mutex
	points map[string][]engine.Point
}

// New starts a migrated server that archives, and an engine that backs it up.
func New(t testing.TB) (*Plain, *db.DB) {
	t.Helper()
	dir := dbtest.Dir(t)
	// A segment appears in the archive whole or not at all, as with a real engine.
	archive, arriving := filepath.Join(dir, "archive"), filepath.Join(dir, "arriving")
	for _, d := range []string{archive, arriving} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil { //nolint:gosec // the server's user writes there, in a test
			t.Fatal(err)
		}
	}
	settings := map[string]string{"archive_mode": "on", "archive_timeout": "1s", "autovacuum": "off", "shared_buffers": "32MB", "fsync": "off",
		"archive_command": "test ! -e " + dir + "/blocked && cp %p " + arriving + "/%f && mv " + arriving + "/%f " + archive + "/%f"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := db.StartCluster(ctx, db.ClusterOptions{Dir: filepath.Join(dir, "postgres"), Settings: settings, Superuser: true, Log: dbtest.Log(t)})
	if err != nil {
		t.Fatalf("starting a server that archives: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := db.Migrate(ctx, c.Config(), nil); err != nil {
		t.Fatalf("migrating: %v", err)
	}
	return &Plain{Server: c, Archive: archive, points: map[string][]engine.Point{}}, dbtest.Open(t, c.Config())
}

// Block makes the server's archiving fail, or work again.
func (p *Plain) Block(on bool) error {
	path := filepath.Join(filepath.Dir(p.Archive), "blocked")
	if on {
		return os.WriteFile(path, nil, 0o644)
	}
	return os.Remove(path)
}

// Name is the engine's name.
func (p *Plain) Name() string { return "plain" }

// Prepare makes the repository.
func (p *Plain) Prepare(_ context.Context, t target.Target) error { return os.MkdirAll(t.Path, 0o755) }

// Admin runs fn as superuser.
func (p *Plain) Admin(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, p.Server.Config().DSN+" user=foundry_bootstrap")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return fn(conn)
}

// Backup copies the data directory between pg_backup_start and pg_backup_stop.
func (p *Plain) Backup(ctx context.Context, t target.Target, r engine.BackupRequest, progress engine.Progress) (pt engine.Point, err error) {
	if _, err := os.Stat(t.Path); err != nil {
		return pt, problem.New(problem.Unavailable, "target-gone", "The target is not there.").WithMend("Mount it.").Wrap(err)
	}
	p.mu.Lock()
	n := len(p.points[t.Name])
	p.mu.Unlock()
	if r.Type == "" {
		r.Type = engine.Full
	}
	pt = engine.Point{Engine: p.Name(), Target: t.Name, Label: fmt.Sprintf("P%03d", n+1), Type: r.Type, Timeline: 1}
	to := filepath.Join(t.Path, pt.Label)
	var label string
	err = p.Admin(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `SELECT clock_timestamp(), l::text, pg_walfile_name(l) FROM pg_backup_start('plain', true) l`).Scan(&pt.Started, &pt.StartLSN, &pt.StartWAL); err != nil {
			return err
		}
		progress.Tell(0, 1, "copying")
		if out, err := exec.CommandContext(ctx, "cp", "-a", p.Server.DataDir(), to).CombinedOutput(); err != nil {
			// Files come and go under a running server.
			if !strings.Contains(string(out), "No such file") {
				return fmt.Errorf("cp: %s: %w", out, err)
			}
		}
		if err := conn.QueryRow(ctx, `SELECT l.lsn::text, l.labelfile, pg_walfile_name(l.lsn), clock_timestamp() FROM pg_backup_stop(true) l`).Scan(&pt.StopLSN, &label, &pt.StopWAL, &pt.Stopped); err != nil {
			return err
		}
		progress.Tell(1, 1, "copied")
		return nil
	})
	if err != nil {
		return pt, err
	}
	for _, gone := range []string{"postmaster.pid", "postmaster.opts", "postmaster.opts"} {
		_ = os.Remove(filepath.Join(to, gone))
	}
	left, _ := filepath.Glob(filepath.Join(to, "pg_wal", "0*"))
	for _, f := range append(left, filepath.Join(to, "pg_wal", "archive_status")) {
		if err := os.RemoveAll(f); err != nil {
			return pt, err
		}
	}
	if err := os.WriteFile(filepath.Join(to, "backup_label"), []byte(label), 0o644); err != nil {
		return pt, err
	}
	if out, err := exec.CommandContext(ctx, "chown", "--reference", p.Server.DataDir(), filepath.Join(to, "backup_label")).CombinedOutput(); err != nil {
		return pt, fmt.Errorf("chown: %s: %w", out, err)
	}
	pt.Bytes = size(to)
	pt.Stored = pt.Bytes
	p.mu.Lock()
	p.points[t.Name] = append(p.points[t.Name], pt)
	p.mu.Unlock()
	return pt, nil
}

func size(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// Points lists what is in the repository.
func (p *Plain) Points(_ context.Context, t target.Target) (out []engine.Point, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pt := range p.points[t.Name] {
		if _, err := os.Stat(filepath.Join(t.Path, pt.Label)); err == nil {
			out = append(out, pt)
		}
	}
	return out, nil
}

// Check says that all is well, as engines do.
func (p *Plain) Check(context.Context, target.Target, engine.Progress) error { return nil }

// Segments lists the archived segments.
func (p *Plain) Segments(context.Context, target.Target) (names []string, err error) {
	entries, err := os.ReadDir(p.Archive)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Restore copies a point back and says how its log is found.
func (p *Plain) Restore(ctx context.Context, t target.Target, r engine.RestoreRequest, progress engine.Progress) (out engine.Restored, err error) {
	began := time.Now()
	points, err := p.Points(ctx, t)
	if err != nil {
		return out, err
	}
	slices.Reverse(points)
	at := slices.IndexFunc(points, func(pt engine.Point) bool {
		return (r.Label == "" || pt.Label == r.Label) && (r.Time.IsZero() || !pt.Stopped.After(r.Time))
	})
	if at < 0 {
		return out, problem.New(problem.NotFound, "point-unknown", "There is no such point.").WithMend("`foundry backup list` shows them.")
	}
	if entries, err := os.ReadDir(r.To); err == nil && len(entries) > 0 {
		return out, problem.New(problem.Conflict, "restore-not-empty", r.To+" is not empty.").WithMend("Name another directory.")
	}
	progress.Tell(0, points[at].Bytes, "restoring")
	if out, err := exec.CommandContext(ctx, "cp", "-a", "-T", filepath.Join(t.Path, points[at].Label), r.To).CombinedOutput(); err != nil {
		return engine.Restored{}, fmt.Errorf("cp: %s: %w", out, err)
	}
	conf := "restore_command = 'cp " + p.Archive + "/%f %p'\n"
	if !r.Time.IsZero() {
		conf += "recovery_target_time = '" + r.Time.UTC().Format("2006-01-02 15:04:05.000000-07") + "'\n"
	}
	err = errors.Join(appendTo(filepath.Join(r.To, "postgresql.auto.conf"), conf), appendTo(filepath.Join(r.To, "recovery.signal"), ""))
	if out, cerr := exec.CommandContext(ctx, "chown", "--reference", r.To, filepath.Join(r.To, "recovery.signal")).CombinedOutput(); cerr != nil {
		err = fmt.Errorf("chown: %s: %w", out, cerr)
	}
	return engine.Restored{Point: points[at], Bytes: points[at].Bytes, Took: time.Since(began)}, err
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Expire removes what is older, but for the newest point.
func (p *Plain) Expire(ctx context.Context, t target.Target, r engine.ExpireRequest) (out engine.Expired, err error) {
	points, err := p.Points(ctx, t)
	for i, pt := range points {
		switch {
		case !pt.Stopped.Before(r.Before):
		case slices.Contains(r.Held, pt.Label):
			out.KeptByHold = append(out.KeptByHold, pt.Label)
		case i == len(points)-1 || points[i+1].Stopped.After(r.Before):
			out.KeptForChain = append(out.KeptForChain, pt.Label)
		default:
			out.Gone = append(out.Gone, pt.Label)
			if !r.DryRun {
				err = errors.Join(err, os.RemoveAll(filepath.Join(t.Path, pt.Label)))
			}
		}
	}
	return out, err
}

// Target makes a directory target.
func Target(t testing.TB, name string) target.Target {
	t.Helper()
	path := filepath.Join(dbtest.Dir(t), "repository")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return target.Target{Config: target.Config{Name: name, Kind: target.Directory, Path: path}}
}

// WaitArchived waits until the server has archived everything written by now.
func (p *Plain) WaitArchived(t testing.TB) (lsn string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := p.Admin(ctx, func(conn *pgx.Conn) error {
		var segment string
		if err := conn.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text, pg_walfile_name(pg_current_wal_lsn())`).Scan(&lsn, &segment); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `SELECT pg_switch_wal()`); err != nil {
			return err
		}
		for {
			if _, err := os.Stat(filepath.Join(p.Archive, segment)); err == nil {
				return nil
			}
			if _, err := conn.Exec(ctx, `SELECT pg_sleep(0.02)`); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatalf("waiting for the archive: %v", err)
	}
	return lsn
}
