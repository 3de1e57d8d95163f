// Package backup knows what can be recovered, and to which point, proven.
//
// An engine's word is never evidence: it has been seen to report success on a
// repository from which two thirds of the newest rows could not be restored.
// A point counts as proven only after it was restored into a cluster of its
// own and every check of package scratch passed there (invariant 10). What
// could not be proven is inconclusive, and shown as such.
package backup

import (
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/backup/scratch"
)

// Subject is what is backed up.
type Subject string

const (
	Database Subject = "database" // PostgreSQL: backups and the archive of its write-ahead log
	Files    Subject = "files"    // wrapped keys, authority, configuration, policies, journal
	Mirrors  Subject = "mirrors"  // copies of Git repositories
)

// Subjects lists every subject.
var Subjects = []Subject{Database, Files, Mirrors}

// Kind is what a run does.
type Kind string

const (
	KindBackup Kind = "backup"
	KindDrill  Kind = "drill"  // restores apart, and proves
	KindVerify Kind = "verify" // the engine's own check, and the continuity of the log
	KindExpire Kind = "expire" // removes what is older than the retention
)

// State is how a run stands.
type State string

const (
	Running     State = "running"
	Done        State = "done"
	Failed      State = "failed"
	Interrupted State = "interrupted" // the process that ran it ended before it did
)

// Outcome is what a proof came to.
type Outcome = scratch.Outcome

// Outcomes.
const (
	Pass         = scratch.Pass
	Fail         = scratch.Fail
	Inconclusive = scratch.Inconclusive // it could not be proven: never green
)

// Progress is how far a run has come. Total 0: not known.
type Progress struct {
	Done  int64  `json:"done"`  // bytes
	Total int64  `json:"total"` // bytes
	What  string `json:"what,omitempty"`
}

// Run is one piece of work on one subject at one target.
type Run struct {
	ID        uuid.UUID  `json:"id"`
	Job       uuid.UUID  `json:"job"` // what it is part of
	Kind      Kind       `json:"kind"`
	Subject   Subject    `json:"subject"`
	Target    string     `json:"target"`
	Engine    string     `json:"engine"`
	Type      string     `json:"type,omitempty"` // of a backup: full, differential, incremental or snapshot
	State     State      `json:"state"`
	By        string     `json:"by"` // a principal; system:backup when the schedule did it
	Node      uint32     `json:"node"`
	Started   time.Time  `json:"started_at"`
	Heard     time.Time  `json:"heard_at"` // when it last said something
	Ended     *time.Time `json:"ended_at,omitempty"`
	Progress  Progress   `json:"progress"`
	Label     string     `json:"label,omitempty"` // of the point that it made or used
	Code      string     `json:"code,omitempty"`  // of what went wrong
	Reason    string     `json:"reason,omitempty"`
	Mend      string     `json:"mend,omitempty"` // what to do next
	Drill     *uuid.UUID `json:"drill,omitempty"`
	Gone      []string   `json:"gone,omitempty"`      // of expire: what was removed, or would be
	Kept      []string   `json:"kept,omitempty"`      // of expire: what is older and was kept, each with the reason
	DryRun    bool       `json:"dry_run,omitempty"`   // of expire: nothing was removed
	Scheduled bool       `json:"scheduled,omitempty"` // by the schedule
}

// Job is what was asked for once: its runs, one after the other.
type Job struct {
	ID    uuid.UUID `json:"id"`
	Kind  Kind      `json:"kind"`
	State State     `json:"state"` // running until every run has ended; otherwise the worst of them
	Runs  []Run     `json:"runs"`
}

// Point is what could be restored: one backup in one repository.
type Point struct {
	Subject  Subject   `json:"subject"`
	Target   string    `json:"target"`
	Engine   string    `json:"engine"`
	Label    string    `json:"label"` // the engine's name of it
	Type     string    `json:"type"`
	Started  time.Time `json:"started_at"`
	Stopped  time.Time `json:"stopped_at"`
	Timeline uint32    `json:"timeline,omitempty"`
	StartLSN string    `json:"start_lsn,omitempty"`
	StopLSN  string    `json:"stop_lsn,omitempty"`
	StartWAL string    `json:"start_wal,omitempty"` // name of the first segment that restoring it needs
	StopWAL  string    `json:"stop_wal,omitempty"`
	Bytes    int64     `json:"bytes"`  // of the source
	Stored   int64     `json:"stored"` // in the repository
	Requires []string  `json:"requires,omitempty"`
	Rows     int64     `json:"rows,omitempty"` // noted when it was made
	Broken   string    `json:"broken,omitempty"`

	Outcome Outcome    `json:"outcome,omitempty"`   // of the last drill of it; empty: never tried
	Proven  *time.Time `json:"proven_at,omitempty"` // when a drill of it last passed
	Drill   *uuid.UUID `json:"drill,omitempty"`
	Holds   int        `json:"holds,omitempty"`   // legal holds on it
	Gone    *time.Time `json:"gone_at,omitempty"` // when it was expired, or found missing
	GoneWhy string     `json:"gone_why,omitempty"`
}

// Check is one thing that was looked at in a restored copy.
type Check = scratch.Check

// Which says what a drill restores.
type Which string

const (
	Latest Which = "latest" // the end of what there is
	Random Which = "random" // a moment anywhere in the window
	Oldest Which = "oldest" // the earliest moment that retention promises
	At     Which = "at"     // a given time
)

// Drill is a restore that was tried and what it proved.
type Drill struct {
	ID        uuid.UUID  `json:"id"`
	Run       uuid.UUID  `json:"run"`
	Subject   Subject    `json:"subject"`
	Target    string     `json:"target"`
	Which     Which      `json:"which"`
	Wanted    *time.Time `json:"wanted_at,omitempty"` // the moment that was asked for
	Label     string     `json:"label,omitempty"`     // what it was restored from
	Escrow    bool       `json:"escrow"`              // with the keys of the emergency kit, not the node's
	Started   time.Time  `json:"started_at"`
	Ended     *time.Time `json:"ended_at,omitempty"`
	Outcome   Outcome    `json:"outcome"`
	Reason    string     `json:"reason"`
	Checks    []Check    `json:"checks"`
	Recovered *time.Time `json:"recovered_at,omitempty"` // the moment that the restored copy had reached

	Restore  float64 `json:"restore_seconds"`       // the engine's part
	Recovery float64 `json:"recovery_seconds"`      // restore, replay and start: until it answered
	Prove    float64 `json:"prove_seconds"`         // the checks
	FullSize float64 `json:"recovery_full_seconds"` // Recovery, extrapolated to everything
	Gap      float64 `json:"gap_seconds"`           // from the moment that was wanted back to Recovered
	RTO      float64 `json:"rto_seconds"`           // what was promised
	RPO      float64 `json:"rpo_seconds"`
	Bytes    int64   `json:"bytes"`              // restored
	Rows     int64   `json:"rows"`               // counted in it
	Evidence string  `json:"evidence,omitempty"` // SHA-256 of the signed record, which the audit log anchors
	Signer   string  `json:"signer,omitempty"`   // the key that signed it
	By       string  `json:"by"`
}

// Hold keeps points from being expired, whatever the retention says.
type Hold struct {
	ID            uuid.UUID  `json:"id"`
	Target        string     `json:"target"` // empty: at every target
	Label         string     `json:"label"`  // empty: every point of the span
	From          *time.Time `json:"from,omitempty"`
	Until         *time.Time `json:"until,omitempty"`
	Reason        string     `json:"reason"`
	Ticket        string     `json:"ticket"`
	By            string     `json:"by"`
	Placed        time.Time  `json:"placed_at"`
	Released      *time.Time `json:"released_at,omitempty"`
	ReleasedBy    string     `json:"released_by,omitempty"`
	ReleaseReason string     `json:"release_reason,omitempty"`
}

// Verdict answers "can I restore?" in a word and a sentence.
type Verdict struct {
	Outcome Outcome `json:"outcome"` // fail: no; inconclusive: nobody knows; pass: yes, proven
	Reason  string  `json:"reason"`
	Next    string  `json:"next,omitempty"` // what to do about it: a command
}

// TargetStatus is how one place of backups is.
type TargetStatus struct {
	Name         string     `json:"name"`
	Kind         string     `json:"kind"`  // directory, s3 or sftp
	Place        string     `json:"place"` // in words: path, bucket or host; no credential
	Subjects     []Subject  `json:"subjects"`
	Supplier     string     `json:"supplier,omitempty"`
	Country      string     `json:"country,omitempty"`
	Free         int64      `json:"free_bytes"`        // -1: not known
	Total        int64      `json:"total_bytes"`       // -1: not known
	Stored       int64      `json:"stored_bytes"`      // by backups
	FullAt       *time.Time `json:"full_at,omitempty"` // when it will be full, as far as the last runs tell
	Reachable    bool       `json:"reachable"`
	Failure      string     `json:"failure,omitempty"`
	NotApart     []string   `json:"not_apart"`           // why a loss of the data could take it along; empty: it could not
	Newest       *time.Time `json:"newest_at,omitempty"` // backup there
	NewestProven *time.Time `json:"newest_proven_at,omitempty"`
	Oldest       *time.Time `json:"oldest_restorable_at,omitempty"`
	ArchivedTo   string     `json:"archived_to,omitempty"` // position of the write-ahead log
	ArchivedAt   *time.Time `json:"archived_at,omitempty"`
	LastRun      *Run       `json:"last_run,omitempty"`

	Probed *TargetProbe `json:"probed,omitempty"` // when somebody last tried it

	mend string // of Failure, where it is known what to do
	near string // what to do about NotApart
}

// Status says what could be recovered now.
type Status struct {
	Configured bool      `json:"configured"` // false: there is no target, hence no backup
	At         time.Time `json:"at"`
	CanRestore Verdict   `json:"can_restore"`

	// WouldLose is what would be lost if this node were lost now: from the
	// newest position that is in a repository from which a restore was proven.
	WouldLose      float64 `json:"would_lose_seconds"` // negative: everything, nothing is proven
	WouldLoseBytes int64   `json:"would_lose_bytes"`   // of the write-ahead log; negative: not known

	NewestProven  *Point         `json:"newest_proven,omitempty"`
	OldestProven  *Point         `json:"oldest_proven,omitempty"`
	Newest        *Point         `json:"newest,omitempty"`
	WALLagSeconds float64        `json:"wal_lag_seconds"` // negative: not known
	WALLagBytes   int64          `json:"wal_lag_bytes"`   // negative: not known
	LastDrill     *Drill         `json:"last_drill,omitempty"`
	LastPassed    *Drill         `json:"last_passed_drill,omitempty"`
	NextBackup    *time.Time     `json:"next_backup_at,omitempty"`
	NextDrill     *time.Time     `json:"next_drill_at,omitempty"`
	RTO           float64        `json:"rto_seconds"`
	RPO           float64        `json:"rpo_seconds"`
	KeepDays      int            `json:"keep_days"`
	Problems      []Problem      `json:"problems"` // what is wrong now, the worst first
	Running       []Job          `json:"running"`
	Targets       []TargetStatus `json:"targets"`
	JournalHeld   int64          `json:"journal_held_bytes"` // shipped, and not yet covered by the archive
}

// Problem is one thing that is wrong with backups now.
type Problem struct {
	Code     string    `json:"code"`     // also of the alarm
	Severity string    `json:"severity"` // warning or critical
	Target   string    `json:"target,omitempty"`
	Reason   string    `json:"reason"`
	Mend     string    `json:"mend"`
	Since    time.Time `json:"since,omitzero"`
}

// Day is one day of the calendar, in UTC.
type Day struct {
	Day     string  `json:"day"`    // 2026-11-30
	Points  int     `json:"points"` // made on that day, and still there
	Proven  int     `json:"proven"` // of these
	Failed  int     `json:"failed"` // runs
	Drills  int     `json:"drills"`
	Worst   Outcome `json:"worst,omitempty"` // of the drills of that day
	Missed  bool    `json:"missed"`          // a backup was due and there is none
	Held    bool    `json:"held"`
	Covered bool    `json:"covered"` // any moment of it could be restored, as far as the catalogue knows
}
