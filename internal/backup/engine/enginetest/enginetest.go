// Package enginetest knows what every backup engine has to do, as tests that a
// real engine passes and a lying one does not.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// World is an engine with something to back up and a place to put it. Its
// functions fail the test themselves.
type World struct {
	Engine  engine.Engine
	Target  target.Target
	Sources []string // of BackupRequest

	// Continuous says that every moment after the first backup can be
	// restored, not only those of the points.
	Continuous bool
	// Write stores a mark in what is backed up, after all earlier ones.
	Write func(t testing.TB, mark string)
	// Grow adds so many bytes that do not compress.
	Grow func(t testing.TB, bytes int64)
	// Settle waits until the target has what the engine puts there between
	// backups. nil: it puts nothing there.
	Settle func(t testing.TB)
	// Place is where to restore to: an absent directory, removed at the end.
	Place func(t testing.TB) string
	// Read returns the marks that are in a restored directory, in order.
	Read func(t testing.TB, restored string) []string

	Program  string                                   // name of the engine's processes
	Own      string                                   // part of the arguments of those of this world; empty: there is no other
	Secrets  []string                                 // that must not be seen anywhere
	Logs     func() string                            // all that was logged, by anybody
	Another  func(t testing.TB) engine.Engine         // what another process of the same node would have
	WrongKey func(t testing.TB) engine.Engine         // the same with another passphrase
	Second   func(t testing.TB) target.Target         // one more target of the same kind, not yet prepared
	Gone     func(t testing.TB) (back func())         // takes the target away
	ReadOnly func(t testing.TB) (back func())         // nil: cannot be had here
	Full     func(t testing.TB) (back func())         // nil: cannot be had here
	Files    func(t testing.TB) (repository []string) // files of the repository; nil: cannot be read from here
}

const patience = 5 * time.Minute

// Run runs the conformance suite. world is called once for each test. Where
// processes of worlds can be told apart (Own), use RunParallel.
func Run(t *testing.T, world func(t *testing.T) World) { run(t, world, false) }

// RunParallel is Run with its tests beside each other.
func RunParallel(t *testing.T, world func(t *testing.T) World) { run(t, world, true) }

func run(t *testing.T, world func(t *testing.T) World, parallel bool) {
	for name, test := range map[string]func(*testing.T, World){
		"a restore brings back what was there":                    restoresWhatWasThere,
		"a later backup has what came later":                      laterBackup,
		"a restore at a time has all before it and nothing after": restoresATime,
		"each kind of backup says what it requires":               saysWhatItRequires,
		"a directory that is not empty is refused":                refusesNonEmpty,
		"a cancelled backup leaves the repository usable":         cancelledBackup,
		"a killed backup leaves the repository usable":            killedBackup,
		"a killed restore is begun again":                         killedRestore,
		"a wrong passphrase is named and changes nothing":         wrongKey,
		"two backups at once exclude each other":                  twoAtOnce,
		"two targets do not wait for each other":                  twoTargets,
		"what is old goes, and what is needed stays":              expires,
		"what is held stays":                                      holds,
		"a dry run removes nothing":                               dryRun,
		"no secret is seen while it works":                        noSecretSeen,
		"the repository is encrypted":                             encrypted,
		"a target that is gone is named, and not made again":      targetGone,
		"a target that is read-only is named":                     targetReadOnly,
		"a target that is full is named and loses nothing":        targetFull,
		"a point that does not exist is named":                    noSuchPoint,
		"preparing twice does no harm":                            preparesTwice,
		"progress only grows":                                     progressGrows,
		"the engine's own check passes":                           checks,
	} {
		t.Run(name, func(t *testing.T) {
			if parallel {
				t.Parallel()
			}
			test(t, world(t))
		})
	}
}

func limit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (w World) prepare(t testing.TB) {
	t.Helper()
	if err := w.Engine.Prepare(limit(t), w.Target); err != nil {
		t.Fatalf("preparing: %v", explain(err))
	}
}

func (w World) backup(t testing.TB, kind engine.Type) engine.Point {
	t.Helper()
	p, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: kind, Sources: w.Sources, Tags: map[string]string{"made-by": "test"}}, nil)
	if err != nil {
		t.Fatalf("backing up: %v", explain(err))
	}
	if p.Label == "" || p.Engine != w.Engine.Name() || p.Target != w.Target.Name || p.Stopped.Before(p.Started) || p.Stopped.IsZero() {
		t.Fatalf("a backup without label, engine, target or times: %+v", p)
	}
	return p
}

func (w World) settle(t testing.TB) {
	t.Helper()
	if w.Settle != nil {
		w.Settle(t)
	}
}

// restore restores and reads the marks.
func (w World) restore(t testing.TB, r engine.RestoreRequest) []string {
	t.Helper()
	r.To = w.Place(t)
	done, err := w.Engine.Restore(limit(t), w.Target, r, nil)
	if err != nil {
		t.Fatalf("restoring: %v", explain(err))
	}
	if r.Label != "" && done.Point.Label != r.Label {
		t.Errorf("restored %s instead of %s", done.Point.Label, r.Label)
	}
	return w.Read(t, r.To)
}

func (w World) points(t testing.TB) []engine.Point {
	t.Helper()
	points, err := w.Engine.Points(limit(t), w.Target)
	if err != nil {
		t.Fatalf("listing points: %v", explain(err))
	}
	return points
}

func (w World) labels(t testing.TB) (labels []string) {
	t.Helper()
	for _, p := range w.points(t) {
		labels = append(labels, p.Label)
	}
	return labels
}

func explain(err error) string {
	text := err.Error()
	for e := errors.Unwrap(err); e != nil; e = errors.Unwrap(e) {
		text += "\n  because " + e.Error()
	}
	return text
}

func same(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("restored %q, want %q", got, want)
	}
}

// code checks the code of a problem, and that it says what to do.
func code(t testing.TB, err error, want ...string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want a problem %q", err, want)
	}
	if !slices.Contains(want, p.Code) || p.Mend == "" {
		t.Fatalf("got %s: %s; want one of %q, with what to do", p.Code, explain(err), want)
	}
}

// full is the type of a first backup.
func (w World) full() engine.Type {
	if w.Continuous {
		return engine.Full
	}
	return engine.Snapshot
}

func (w World) incremental() engine.Type {
	if w.Continuous {
		return engine.Differential
	}
	return engine.Snapshot
}

func restoresWhatWasThere(t *testing.T, w World) {
	w.Write(t, "one")
	w.Write(t, "two")
	w.prepare(t)
	p := w.backup(t, w.full())
	if len(w.points(t)) != 1 || w.points(t)[0].Label != p.Label {
		t.Errorf("points %+v, want only %s", w.points(t), p.Label)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), "one", "two")
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), "one", "two")
}

func laterBackup(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	first := w.backup(t, w.full())
	w.Write(t, "two")
	second := w.backup(t, w.incremental())
	if first.Label == second.Label || second.Stopped.Before(first.Stopped) {
		t.Fatalf("two backups are %+v and %+v", first, second)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), "one", "two")
	if w.Continuous {
		w.Write(t, "three")
		w.settle(t)
		same(t, w.restore(t, engine.RestoreRequest{}), "one", "two", "three")
		return
	}
	same(t, w.restore(t, engine.RestoreRequest{Label: first.Label}), "one")
}

// pause lets the clock of the database and of the points, in seconds, move on.
func pause(t testing.TB) time.Time {
	t.Helper()
	begin := time.Now()
	timer := time.NewTimer(1100 * time.Millisecond)
	<-timer.C
	return begin.Add(1050 * time.Millisecond)
}

func restoresATime(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.backup(t, w.full())
	var between time.Time
	if w.Continuous {
		pause(t)
		w.Write(t, "two")
		between = pause(t)
		pause(t)
		w.Write(t, "three")
		w.settle(t)
		same(t, w.restore(t, engine.RestoreRequest{Time: between}), "one", "two")
	} else {
		between = pause(t)
		pause(t)
		w.Write(t, "two")
		w.backup(t, w.incremental())
		same(t, w.restore(t, engine.RestoreRequest{Time: between}), "one")
	}
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Time: between.Add(-24 * time.Hour), To: w.Place(t)}, nil)
	code(t, err, "point-too-early")
}

func saysWhatItRequires(t *testing.T, w World) {
	w.prepare(t)
	first := w.backup(t, w.full())
	second := w.backup(t, w.incremental())
	if len(first.Requires) != 0 {
		t.Errorf("the first backup requires %q", first.Requires)
	}
	if w.Continuous && !slices.Contains(second.Requires, first.Label) {
		t.Errorf("a differential backup requires %q, want %s", second.Requires, first.Label)
	}
	if first.Bytes == 0 {
		t.Error("a backup of nothing")
	}
}

func refusesNonEmpty(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.backup(t, w.full())
	to := w.Place(t)
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(to, "precious")
	if err := os.WriteFile(precious, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: to}, nil)
	code(t, err, "restore-not-empty")
	if text, err := os.ReadFile(precious); err != nil || string(text) != "mine" {
		t.Errorf("what was there is now %q, %v", text, err)
	}
	if entries, _ := os.ReadDir(to); len(entries) != 1 {
		t.Errorf("something was written beside it: %v", entries)
	}
}

func cancelledBackup(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 64<<20)
	ctx, cancel := context.WithCancelCause(limit(t))
	enough := errors.New("enough")
	_, err := w.Engine.Backup(ctx, w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, func(done, total int64, _ string) {
		if done > 0 {
			cancel(enough)
		}
	})
	if err == nil {
		t.Skip("the backup was faster than the cancellation")
	}
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want the reason of the cancellation", explain(err))
	}
	w.gone(t)
	w.Write(t, "two")
	w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{}), "one", "two")
}

// gone waits until no process of the engine, begun by this one, is left.
func (w World) gone(t testing.TB) {
	t.Helper()
	until(t, "the engine's processes are gone", func() bool { return len(w.processes(false)) == 0 })
}

func killedBackup(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	before := w.backup(t, w.full())
	w.Grow(t, 64<<20)
	var killed atomic.Int64
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, func(done, _ int64, _ string) {
		if done > 0 && killed.Load() == 0 {
			for _, pid := range w.processes(false) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed.Add(1)
			}
		}
	})
	if killed.Load() == 0 {
		t.Skip("the backup was faster than the kill")
	}
	if err == nil {
		t.Error("a killed backup succeeded")
	} else {
		code(t, err, "engine-killed")
	}
	w.gone(t)
	same(t, w.restore(t, engine.RestoreRequest{Label: before.Label}), "one")
	w.Write(t, "two")
	after := w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{Label: after.Label}), "one", "two")
}

func killedRestore(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 64<<20)
	p := w.backup(t, w.full())
	to := w.Place(t)
	var killed atomic.Int64
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: to}, func(done, _ int64, _ string) {
		if done > 0 && killed.Load() == 0 {
			for _, pid := range w.processes(false) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed.Add(1)
			}
		}
	})
	if killed.Load() == 0 {
		t.Skip("the restore was faster than the kill")
	}
	if err == nil {
		t.Fatal("a killed restore succeeded")
	}
	w.gone(t)
	// Either the same directory can be continued, or it is refused and another works.
	if _, err = w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: to}, nil); err != nil {
		code(t, err, "restore-not-empty")
		same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), "one")
		return
	}
	same(t, w.Read(t, to), "one")
}

func wrongKey(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	p := w.backup(t, w.full())
	stranger := w.WrongKey(t)
	if _, err := stranger.Points(limit(t), w.Target); err == nil {
		t.Error("points are listed with a wrong passphrase")
	} else {
		code(t, err, "repository-key")
	}
	if err := stranger.Prepare(limit(t), w.Target); err == nil {
		t.Error("a repository is prepared over another's")
	} else {
		code(t, err, "repository-key")
	}
	_, err := stranger.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "repository-key")
	_, err = stranger.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: w.Place(t)}, nil)
	code(t, err, "repository-key")
	_, err = stranger.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	code(t, err, "repository-key")
	if err := stranger.Check(limit(t), w.Target, nil); err == nil {
		t.Error("a repository is checked with a wrong passphrase")
	}
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), "one")
}

func twoAtOnce(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 64<<20)
	other := w.Another(t)
	var once sync.Once
	var second error
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, func(int64, int64, string) {
		once.Do(func() {
			_, second = other.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
		})
	})
	if err != nil {
		t.Fatalf("the first of two: %v", explain(err))
	}
	code(t, second, "engine-locked")
	if n := len(w.points(t)); n != 1 {
		t.Errorf("%d points, want 1", n)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
}

func twoTargets(t *testing.T, w World) {
	if w.Second == nil {
		t.Skip("one target only")
	}
	second := w.Second(t)
	w.prepare(t)
	if err := w.Engine.Prepare(limit(t), second); err != nil {
		t.Fatal(explain(err))
	}
	w.Write(t, "one")
	var group sync.WaitGroup
	for _, at := range []target.Target{w.Target, second} {
		group.Go(func() {
			if _, err := w.Engine.Backup(limit(t), at, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil); err != nil {
				t.Errorf("%s: %v", at.Name, explain(err))
			}
		})
	}
	group.Wait()
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
	w.Target = second
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
}

// history makes full, later, full, later, full, each of its own second.
func (w World) history(t testing.TB) (points []engine.Point) {
	t.Helper()
	w.prepare(t)
	for i, kind := range []engine.Type{w.full(), w.incremental(), w.full(), w.incremental(), w.full()} {
		w.Write(t, fmt.Sprintf("mark %d", i))
		points = append(points, w.backup(t, kind))
		pause(t)
	}
	return points
}

func expires(t *testing.T, w World) {
	p := w.history(t)
	// The moment right after the fourth: the fourth serves it, and needs the third.
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: p[3].Stopped.Add(time.Second)})
	if err != nil {
		t.Fatal(explain(err))
	}
	gone := []string{p[0].Label, p[1].Label}
	kept := []string{p[2].Label, p[3].Label}
	if !w.Continuous {
		gone, kept = []string{p[0].Label, p[1].Label, p[2].Label}, []string{p[3].Label}
	}
	sorted := func(s []string) []string { return slices.Sorted(slices.Values(s)) }
	if !slices.Equal(sorted(x.Gone), sorted(gone)) || !slices.Equal(sorted(x.KeptForChain), sorted(kept)) {
		t.Errorf("gone %q, kept for the chain %q; want %q, %q", x.Gone, x.KeptForChain, gone, kept)
	}
	if got, want := w.labels(t), append(kept, p[4].Label); !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("left are %q, want %q", got, want)
	}
	// Everything: the last good chain stays.
	x, err = w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(explain(err))
	}
	if got := w.labels(t); !slices.Equal(got, []string{p[4].Label}) {
		t.Errorf("left are %q, want the last, %s (%+v)", got, p[4].Label, x)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), "mark 0", "mark 1", "mark 2", "mark 3", "mark 4")
}

func holds(t *testing.T, w World) {
	p := w.history(t)
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour), Held: []string{p[1].Label}})
	if err != nil {
		t.Fatal(explain(err))
	}
	if !slices.Contains(x.KeptByHold, p[1].Label) {
		t.Errorf("kept by hold %q, want %s", x.KeptByHold, p[1].Label)
	}
	labels := w.labels(t)
	for _, needed := range append([]string{p[1].Label}, p[1].Requires...) {
		if !slices.Contains(labels, needed) {
			t.Errorf("%s is gone, but it is held or required by what is held; left are %q", needed, labels)
		}
	}
	if slices.Contains(labels, p[3].Label) {
		t.Errorf("%s is still there, though nothing holds it", p[3].Label)
	}
	to := w.restore(t, engine.RestoreRequest{Label: p[1].Label, Time: p[1].Stopped.Add(500 * time.Millisecond)})
	same(t, to, "mark 0", "mark 1")
}

func dryRun(t *testing.T, w World) {
	w.prepare(t)
	old := w.backup(t, w.full())
	pause(t)
	w.backup(t, w.full())
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour), DryRun: true})
	if err != nil || !slices.Equal(x.Gone, []string{old.Label}) {
		t.Fatalf("got %+v, %v; want that %s would go", x, err, old.Label)
	}
	if n := len(w.points(t)); n != 2 {
		t.Errorf("%d points are left, want 2", n)
	}
}

func noSecretSeen(t *testing.T, w World) {
	stop := w.watch(t)
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 32<<20)
	w.backup(t, w.full())
	w.settle(t)
	w.restore(t, engine.RestoreRequest{})
	_ = w.Engine.Check(limit(t), w.Target, nil)
	_, err := w.WrongKey(t).Points(limit(t), w.Target) // errors quote most
	if seen := stop(); seen == 0 {
		t.Error("no process of the engine was seen at all")
	}
	text := w.Logs() + explain(err)
	for _, secret := range w.Secrets {
		if strings.Contains(text, secret) {
			t.Error("a secret was logged")
		}
	}
}

func encrypted(t *testing.T, w World) {
	if w.Files == nil {
		t.Skip("the repository's files cannot be read from here")
	}
	const canary = "canary-7c1f94e2-in-the-clear"
	w.prepare(t)
	w.Write(t, canary)
	w.backup(t, w.full())
	w.settle(t)
	files := w.Files(t)
	if len(files) < 3 {
		t.Fatalf("%d files in the repository", len(files))
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), canary) || strings.Contains(path, canary) {
			t.Errorf("%s has the canary in the clear", path)
		}
	}
	same(t, w.restore(t, engine.RestoreRequest{}), canary)
}

func targetGone(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.backup(t, w.full())
	back := w.Gone(t)
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "target-gone", "repository-missing")
	_, err = w.Engine.Points(limit(t), w.Target)
	code(t, err, "target-gone", "repository-missing")
	_, err = w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: w.Place(t)}, nil)
	code(t, err, "target-gone", "repository-missing")
	if err := w.Engine.Prepare(limit(t), w.Target); err == nil {
		t.Error("a new repository is made where one is missing")
	} else {
		code(t, err, "target-gone", "repository-missing")
	}
	back()
	w.Write(t, "two")
	w.backup(t, w.incremental())
	same(t, w.restore(t, engine.RestoreRequest{}), "one", "two")
}

func targetReadOnly(t *testing.T, w World) {
	if w.ReadOnly == nil {
		t.Skip("the target cannot be made read-only here")
	}
	w.prepare(t)
	w.Write(t, "one")
	w.backup(t, w.full())
	back := w.ReadOnly(t)
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "target-read-only", "target-denied")
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
	back()
	w.backup(t, w.incremental())
}

func targetFull(t *testing.T, w World) {
	if w.Full == nil {
		t.Skip("the target cannot be filled here")
	}
	w.prepare(t)
	w.Write(t, "one")
	p := w.backup(t, w.full())
	back := w.Full(t)
	w.Grow(t, 16<<20)
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "target-full")
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), "one")
	back()
	w.Write(t, "two")
	w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{}), "one", "two")
}

func noSuchPoint(t *testing.T, w World) {
	w.prepare(t)
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: w.Place(t)}, nil)
	code(t, err, "point-missing")
	w.backup(t, w.full())
	_, err = w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: "20010101-000000F", To: w.Place(t)}, nil)
	code(t, err, "point-missing")
}

func preparesTwice(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	p := w.backup(t, w.full())
	w.prepare(t)
	if err := w.Another(t).Prepare(limit(t), w.Target); err != nil {
		t.Error(explain(err))
	}
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), "one")
}

func progressGrows(t *testing.T, w World) {
	w.prepare(t)
	w.Grow(t, 32<<20)
	look := func(what string) (engine.Progress, func()) {
		var last, total int64
		told := 0
		return func(done, of int64, _ string) {
				if done < last || of != 0 && done > of+of/4 {
					t.Errorf("%s: %d of %d after %d", what, done, of, last)
				}
				last, total = done, of
				told++
			}, func() {
				if told < 2 || last == 0 || total == 0 {
					t.Errorf("%s: told %d times, at last %d of %d", what, told, last, total)
				}
			}
	}
	p, end := look("backup")
	if _, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, p); err != nil {
		t.Fatal(explain(err))
	}
	end()
	p, end = look("restore")
	if _, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: w.Place(t)}, p); err != nil {
		t.Fatal(explain(err))
	}
	end()
}

func checks(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.backup(t, w.full())
	w.settle(t)
	if err := w.Engine.Check(limit(t), w.Target, nil); err != nil {
		t.Error(explain(err))
	}
}
