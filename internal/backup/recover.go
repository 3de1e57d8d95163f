package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// RecoverOptions say what is recovered, and onto what.
type RecoverOptions struct {
	Kit     []byte      // the kit's file
	Shares  []kit.Share // enough of them
	Bundle  *Bundle     // what the lost node left for this one, in the place of kit and shares
	DataDir string      // empty, absent, or left by a recovery of the same kit that was interrupted
	At      time.Time   // zero: the newest there is
	Target  string      // name of the target; empty: the one with the newest point
	// Paths says where directories of targets are on this machine, by the
	// target's name, where that is not where the kit says.
	Paths   map[string]string
	DryRun  bool   // looks and says, changes nothing
	KEK     string // file for the key-encryption key; empty in development: below the data directory
	BinDir  string // of PostgreSQL; empty: found
	Version string // of this program

	// Engines makes the engines with the kit's passphrases. Nil: pgBackRest and
	// restic. They may work in dir.
	Engines func(ctx context.Context, targets []target.Target, c kit.Content, dir string) (RecoveryEngines, error)
	// Configure writes the settings for this machine and returns the file's path.
	Configure func(c kit.Content, dataDir, kek string) (file string, err error)
	Progress  func(step string, done, total int64, what string) // may be nil
	Log       *slog.Logger
	Clock     func() time.Time
}

// RecoveryEngines are what a recovery restores with.
type RecoveryEngines struct {
	Database engine.Engine
	Files    engine.Engine // nil: there are no backups of files
	// Archive lists what the repository at a target holds of the write-ahead log.
	// and when the newest of it came there. May be nil.
	Archive func(ctx context.Context, t target.Target) (a scratch.Archive, newest time.Time, err error)
	Close   func() error
}

// Recovery is what was recovered, how far, and when: kept in the data directory
// so that it goes on where it was interrupted. It holds no secret.
type Recovery struct {
	Version int        `json:"version"`
	ID      string     `json:"id"`
	Kit     kit.Header `json:"kit"`
	KitHash string     `json:"kit_sha256"`           // or of the bundle
	Taken   *TakenOver `json:"taken_over,omitempty"` // nil: recovered from a kit
	Node    string     `json:"node"`
	DataDir string     `json:"data_dir"`
	Program string     `json:"program"` // version of Foundry that recovered

	Target  string       `json:"target"`
	Wanted  time.Time    `json:"wanted,omitzero"`  // the moment asked for; zero: the newest
	Point   engine.Point `json:"point"`            // the backup that it is restored from
	Reaches time.Time    `json:"reaches,omitzero"` // until when the repository says it has something
	KEK     string       `json:"kek,omitempty"`
	Config  string       `json:"config,omitempty"`

	Started     time.Time      `json:"started"`
	Steps       []RecoveryStep `json:"steps"`
	Proof       *scratch.Proof `json:"proof,omitempty"`
	Recovered   time.Time      `json:"recovered,omitzero"`   // the moment that the data has reached
	Lost        float64        `json:"lost_seconds"`         // from Recovered to when the recovery began
	AuditBehind bool           `json:"audit_behind"`         // entries that the log had signed are lost, as far as is known
	AuditSize   int64          `json:"audit_size,omitempty"` // leaves of the audit tree that came back
	AuditRoot   string         `json:"audit_root,omitempty"` // and its root, in base64
	Finished    time.Time      `json:"finished,omitzero"`
	Fenced      bool           `json:"fenced"`
	Activated   time.Time      `json:"activated,omitzero"`
	Announced   time.Time      `json:"announced,omitzero"` // when the act was entered into the restored audit log
	Notes       []string       `json:"notes,omitempty"`    // what a person has to know or do
	Evidence    string         `json:"evidence,omitempty"` // file
}

// RecoveryStep is a step and when it was done.
type RecoveryStep struct {
	Name  string    `json:"name"`
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"` // zero: interrupted, or at it
	Said  string    `json:"said,omitempty"`
	Tries int       `json:"tries"`
}

// Steps of a recovery, in order. Each may be interrupted, and is then done again.
const (
	StepKit      = "kit"
	StepTargets  = "targets"
	StepKeys     = "keys"
	StepDatabase = "database"
	StepReplay   = "replay and proof"
	StepFiles    = "files"
	StepConfig   = "configuration"
	StepEvidence = "evidence"
)

// RecoverySteps lists the steps.
var RecoverySteps = []string{StepKit, StepTargets, StepKeys, StepDatabase, StepReplay, StepFiles, StepConfig, StepEvidence}

// recovering is one process at it.
type recovering struct {
	o       RecoverOptions
	r       *Recovery
	content kit.Content
	targets []target.Target
	engines RecoveryEngines
	lock    *os.File
	ring    *keys.Keyring
	remove  func() error // what the engines left of their work
	pages   *scratch.Pages
	files   *filesBeside
}

// Recover brings a node back from its kit, the shares and a target of its
// backups, onto a machine that has nothing else. It leaves the node fenced. The
// Recovery is returned with an error too, as far as it came.
func Recover(ctx context.Context, o RecoverOptions) (*Recovery, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64, string) {}
	}
	var err error
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return nil, err
	}
	if o.Engines == nil {
		o.Engines = func(ctx context.Context, targets []target.Target, c kit.Content, dir string) (RecoveryEngines, error) {
			return KitEngines(ctx, targets, c, dir, o.Log)
		}
	}
	x := &recovering{o: o}
	defer x.close()
	o.Progress(StepKit, 0, 0, "")
	if err := x.open(); err != nil {
		return nil, err
	}
	if err := x.claim(); err != nil {
		return x.r, err
	}
	if x.r.done(StepEvidence) {
		return x.r, problem.New(problem.Conflict, "recovery-done", "This data directory was recovered from this already, and waits to be activated.").
			WithMend("Look at what was recovered, then run `foundry recover --activate`. To recover again, use another --data-dir.")
	}
	return x.r, x.run(ctx)
}

func (x *recovering) close() {
	x.pages.Close()
	x.files.end()
	if x.engines.Close != nil {
		if err := x.engines.Close(); err != nil {
			x.o.Log.Warn("secrets of the engines may be left in memory-backed files", "error", err)
		}
	}
	if x.remove != nil && (x.o.DryRun || x.r.done(StepEvidence)) {
		if err := x.remove(); err != nil {
			x.o.Log.Warn("working files of the engines were left", "error", err)
		}
	}
	x.content.Wipe()
	if x.lock != nil {
		_ = x.lock.Close()
	}
}

// open checks everything that needs no network and no disk.
func (x *recovering) open() (err error) {
	if b := x.o.Bundle; b != nil {
		return x.openBundle(b)
	}
	key, err := kit.Combine(x.o.Shares)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if x.content, err = kit.Open(x.o.Kit, key); err != nil {
		return err
	}
	sum := sha256.Sum256(x.o.Kit)
	return x.begin(hex.EncodeToString(sum[:]))
}

// begin makes the record of a recovery from what was opened.
func (x *recovering) begin(digest string) error {
	if len(x.content.Targets) == 0 {
		return problem.New(problem.NotFound, "kit-no-target", "The kit names no target of backups: there is nothing to recover from.").
			WithMend("Use a newer kit, if there is one.")
	}
	if x.content.PostgreSQL == 0 {
		return problem.New(problem.Unsupported, "kit-external", "The node's database ran elsewhere: its backups are not Foundry's.").
			WithMend("Restore the database with its own backups, then start a node with the kit's keys: docs/runbooks/bare-machine.md.")
	}
	now := x.o.Clock().UTC()
	x.r = &Recovery{Version: 1, ID: digest[:8] + "-" + now.Format("20060102T150405"), Kit: x.content.Header, KitHash: digest,
		Node: x.content.Node.Name, DataDir: x.o.DataDir, Program: x.o.Version, Wanted: x.o.At.UTC(), Target: x.o.Target, KEK: x.o.KEK, Started: now}
	if x.o.At.After(now) {
		return problem.New(problem.Invalid, "recovery-future", fmt.Sprintf("%s has not come yet.", stamp(x.o.At))).WithField("at").WithMend("Give an earlier time, in UTC, or none for the newest.")
	}
	known := false
	for _, t := range x.content.Targets {
		known = known || t.Config.Name == x.o.Target || x.o.Target == ""
	}
	for name := range x.o.Paths {
		if !slices.ContainsFunc(x.content.Targets, func(t kit.Target) bool { return t.Config.Name == name }) {
			return problem.New(problem.NotFound, "target-unknown", fmt.Sprintf("The kit knows no target named %q.", name)).WithField("target-path").
				WithMend("It has: " + names(x.content.Targets) + ".")
		}
	}
	if !known {
		return problem.New(problem.NotFound, "target-unknown", fmt.Sprintf("The kit knows no target named %q.", x.o.Target)).WithField("target").
			WithMend("It has: " + names(x.content.Targets) + ".")
	}
	return nil
}

func names(targets []kit.Target) (out string) {
	for i, t := range targets {
		if i > 0 {
			out += ", "
		}
		out += t.Config.Name
	}
	return out
}

// run does the steps that are not done.
func (x *recovering) run(ctx context.Context) (err error) {
	dir, remove, err := x.workplace()
	if err != nil {
		return err
	}
	x.remove = remove
	all, err := openTargets(x.content.Targets, dir)
	if err != nil {
		return err
	}
	for _, t := range all {
		if path := x.o.Paths[t.Name]; path != "" {
			t.Path = path
		}
		if x.o.Target == "" || x.o.Target == t.Name {
			x.targets = append(x.targets, t)
		}
	}
	if x.engines, err = x.o.Engines(ctx, x.targets, x.content, dir); err != nil {
		return err
	}
	steps := []struct {
		name string
		do   func(context.Context, *RecoveryStep) error
	}{
		{StepKit, x.stepKit}, {StepTargets, x.stepTargets}, {StepKeys, x.stepKeys}, {StepDatabase, x.stepDatabase},
		{StepReplay, x.stepReplay}, {StepFiles, x.stepFiles}, {StepConfig, x.stepConfig}, {StepEvidence, x.stepEvidence},
	}
	for _, s := range steps {
		if x.r.done(s.name) {
			continue
		}
		if s.name == StepDatabase || s.name == StepReplay {
			x.beginFiles(ctx)
		}
		if err := x.step(ctx, s.name, s.do); err != nil {
			return err
		}
		if x.o.DryRun && s.name == StepTargets {
			return nil
		}
	}
	return nil
}

func (x *recovering) step(ctx context.Context, name string, do func(context.Context, *RecoveryStep) error) error {
	s := x.r.step(name)
	s.Began, s.Tries = x.o.Clock().UTC(), s.Tries+1
	if err := x.save(); err != nil {
		return err
	}
	x.o.Log.Info("a step of the recovery begins", "step", name)
	x.o.Progress(name, 0, 0, "")
	if err := do(ctx, s); err != nil {
		if ctx.Err() != nil {
			return problem.New(problem.Canceled, "recovery-interrupted", fmt.Sprintf("The recovery was interrupted at the step %q.", name)).
				WithMend("Run the same command again: it goes on from there.").Wrap(err)
		}
		return err
	}
	s.Ended = x.o.Clock().UTC()
	return x.save()
}

// step finds a step's record, or begins one.
func (r *Recovery) step(name string) *RecoveryStep {
	for i := range r.Steps {
		if r.Steps[i].Name == name {
			return &r.Steps[i]
		}
	}
	if cap(r.Steps) < len(RecoverySteps) { // once, so that pointers stay good
		r.Steps = append(make([]RecoveryStep, 0, len(RecoverySteps)), r.Steps...)
	}
	r.Steps = append(r.Steps, RecoveryStep{Name: name})
	return &r.Steps[len(r.Steps)-1]
}

func (r *Recovery) done(name string) bool {
	for _, s := range r.Steps {
		if s.Name == name {
			return !s.Ended.IsZero()
		}
	}
	return false
}

// note keeps something that a person has to know, once.
func (r *Recovery) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, n := range r.Notes {
		if n == text {
			return
		}
	}
	r.Notes = append(r.Notes, text)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

var errNoPoint = errors.New("no point")
