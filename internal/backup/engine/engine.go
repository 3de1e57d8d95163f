// Package engine knows what every backup engine has to do, and how its program
// is run: as a child of this process, with its secrets in memory-backed files.
//
// What an engine says is not evidence. Every engine that was measured exits 0
// on repositories that lose data (see docs/decisions): only what is restored
// and read proves anything.
package engine

import (
	"context"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
)

// Type is how much a backup holds by itself.
type Type string

// Types of backup.
const (
	Full         Type = "full"         // needs no other
	Differential Type = "differential" // needs the full one before it
	Incremental  Type = "incremental"  // needs those before it, up to a full one
	Snapshot     Type = "snapshot"     // of files; deduplicated, needs no other by name
)

// Point is one backup in one repository, as the engine describes it.
type Point struct {
	Engine  string    `json:"engine"`
	Target  string    `json:"target"`
	Label   string    `json:"label"`
	Type    Type      `json:"type"`
	Started time.Time `json:"started"`
	Stopped time.Time `json:"stopped"`

	StartLSN string `json:"start_lsn,omitempty"` // database only, to Timeline
	StopLSN  string `json:"stop_lsn,omitempty"`
	StartWAL string `json:"start_wal,omitempty"`
	StopWAL  string `json:"stop_wal,omitempty"`
	Timeline uint32 `json:"timeline,omitempty"`

	Bytes    int64    `json:"bytes"`  // of the source
	Stored   int64    `json:"stored"` // in the repository, by this backup alone; 0 when unknown
	Requires []string `json:"requires,omitempty"`
	Paths    []string `json:"paths,omitempty"` // files only
	// Broken is what the engine itself says is wrong. Empty proves nothing.
	Broken string `json:"broken,omitempty"`
}

// Progress is told how far a run is, in bytes; total is 0 when unknown. It may be nil.
type Progress func(done, total int64, what string)

// Tell calls p if there is one.
func (p Progress) Tell(done, total int64, what string) {
	if p != nil {
		p(done, total, what)
	}
}

// BackupRequest asks for a backup.
type BackupRequest struct {
	Type    Type              // empty: the engine's own choice
	Sources []string          // files and directories; the database needs none
	Tags    map[string]string // kept with the backup; no secrets, no personal data
}

// RestoreRequest asks for a restore.
type RestoreRequest struct {
	Label string    // empty: the newest that serves Time
	Time  time.Time // zero: the end of what there is
	To    string    // an empty or absent directory
	Only  []string  // files only: what to restore; empty: all
}

// Restored says what a restore did. It does not prove that the data are good.
type Restored struct {
	Point Point         `json:"point"`
	Bytes int64         `json:"bytes"`
	Files int64         `json:"files"`
	Took  time.Duration `json:"took"`
	Said  []string      `json:"said,omitempty"` // the engine's last lines, redacted
}

// ExpireRequest asks to remove what is older than Before.
type ExpireRequest struct {
	Before time.Time
	Held   []string // labels that must stay, with all that they require
	DryRun bool
	// Planned is told what is about to go, before anything does; an error of it
	// stops the run. An expiry that is killed has removed some of that. It may
	// be nil.
	Planned func(labels []string) error
}

// Plan calls Planned if there is one, and something is to go.
func (r ExpireRequest) Plan(labels []string) error {
	if r.Planned == nil || len(labels) == 0 {
		return nil
	}
	return r.Planned(labels)
}

// Expired says what went and what stayed although it is older, by label.
type Expired struct {
	Gone         []string `json:"gone,omitempty"`
	KeptForChain []string `json:"kept_for_chain,omitempty"` // a younger point, or the oldest moment to be restored, needs it
	KeptByHold   []string `json:"kept_by_hold,omitempty"`
	KeptByLock   []string `json:"kept_by_lock,omitempty"` // the target does not let it go yet
}

// Engine makes backups in repositories at targets. Its methods may run at the
// same time for different targets; two runs on one target exclude each other,
// across processes, and the second says so (code "engine-locked").
type Engine interface {
	Name() string // "pgbackrest", "restic"

	// Prepare makes the repository where there is none. It never touches one
	// made with another key, or of something else, and is idempotent.
	Prepare(ctx context.Context, t target.Target) error
	Backup(ctx context.Context, t target.Target, r BackupRequest, p Progress) (Point, error)
	// Points lists what the repository says it has, oldest first.
	Points(ctx context.Context, t target.Target) ([]Point, error)
	// Check is the engine's own check of the repository. nil proves nothing.
	Check(ctx context.Context, t target.Target, p Progress) error
	// Restore refuses a directory that is not empty.
	Restore(ctx context.Context, t target.Target, r RestoreRequest, p Progress) (Restored, error)
	// Expire never removes the last good chain.
	Expire(ctx context.Context, t target.Target, r ExpireRequest) (Expired, error)
}

// Passphrase returns the passphrase of an engine's repository at a target.
type Passphrase func(ctx context.Context, t target.Target) (string, error)
