// Package enginetest knows what every backup engine has to do, as tests that a
// real engine passes and a lying one does not.
package enginetest

import (
	"context"
	"errors"
	"slices"
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
	// Grow has so many bytes that do not compress, in the place of earlier ones.
	Grow func(t testing.TB, bytes int64)
	// Plant puts a file of a name of its own where every backup reads it, and
	// returns its path.
	Plant func(t testing.TB) (path string)
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
	Files    func(t testing.TB) (repository []string) // files of the repository, wherever the target keeps them

	marks *[]string // written so far
}

const patience = 5 * time.Minute

// Run runs the conformance suite. world is called once for each test. Where
// processes of worlds can be told apart (Own), use RunParallel.
func Run(t *testing.T, world func(t *testing.T) World) { run(t, world, false) }

// RunParallel is Run with its tests beside each other.
func RunParallel(t *testing.T, world func(t *testing.T) World) { run(t, world, true) }

func run(t *testing.T, world func(t *testing.T) World, parallel bool) {
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			if parallel {
				t.Parallel()
			}
			w := world(t)
			w.marks = new([]string)
			c.test(t, w)
		})
	}
}

// RunShort runs what matters most of the suite in one world and on one
// repository, one after the other.
func RunShort(t *testing.T, w World) {
	w.marks = new([]string)
	for _, c := range suite {
		if c.short {
			t.Run(c.name, func(t *testing.T) { c.test(t, w) })
		}
	}
}

var suite = []struct {
	name  string
	short bool
	test  func(*testing.T, World)
}{
	{"a restore brings back what was there", true, restoresWhatWasThere},
	{"a later backup has what came later", false, laterBackup},
	{"a restore at a time has all before it and nothing after", true, restoresATime},
	{"each kind of backup says what it requires", false, saysWhatItRequires},
	{"a directory that is not empty is refused", false, refusesNonEmpty},
	{"a cancelled backup leaves the repository usable", false, cancelledBackup},
	{"a killed backup leaves the repository usable", true, killedBackup},
	{"a killed restore is begun again", false, killedRestore},
	{"a wrong passphrase is named and changes nothing", true, wrongKey},
	{"a flipped byte is named and never restored", true, flippedByte},
	{"two backups at once exclude each other", false, twoAtOnce},
	{"two targets do not wait for each other", false, twoTargets},
	{"no secret is seen while it works", true, noSecretSeen},
	{"the repository is encrypted", true, encrypted},
	{"a dry run removes nothing", false, dryRun},
	{"the last good backup never goes", true, lastStays},
	{"a target that is gone is named, and not made again", true, targetGone},
	{"a target that is read-only is named", true, targetReadOnly},
	{"a target that is full is named and loses nothing", true, targetFull},
	{"a point that does not exist is named", false, noSuchPoint},
	{"preparing twice does no harm", false, preparesTwice},
	{"progress only grows", false, progressGrows},
	{"the engine's own check passes", false, checks},
	{"what is old goes, and what is needed stays", false, expires},
	{"what is held stays", false, holds},
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

// write stores marks.
func (w World) write(t testing.TB, marks ...string) {
	t.Helper()
	for _, mark := range marks {
		w.Write(t, mark)
		*w.marks = append(*w.marks, mark)
	}
}

// all are the marks that were written so far.
func (w World) all() []string { return slices.Clone(*w.marks) }

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
