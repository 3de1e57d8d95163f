package backup

import "time"

// Request asks for backups.
type Request struct {
	Subjects []Subject `json:"subjects,omitempty"` // none: everything
	Targets  []string  `json:"targets,omitempty"`  // none: every target
	Type     string    `json:"type,omitempty"`     // full, differential or incremental; empty: what the schedule would choose
}

// DrillRequest asks for a restore that is proven and thrown away.
type DrillRequest struct {
	Subject Subject   `json:"subject,omitempty"` // empty: the database
	Target  string    `json:"target,omitempty"`  // empty: the one that was drilled longest ago
	Which   Which     `json:"which,omitempty"`   // empty: the latest
	Time    time.Time `json:"time,omitzero"`     // of Which At
	Label   string    `json:"label,omitempty"`   // of one point, instead
}

// TargetRequest asks for work on targets.
type TargetRequest struct {
	Targets []string `json:"targets,omitempty"` // none: every target
	DryRun  bool     `json:"dry_run,omitempty"` // of expire: only says what would go
}

// NewHold asks that points be kept.
type NewHold struct {
	Target string    `json:"target,omitempty"` // empty: every target
	Label  string    `json:"label,omitempty"`  // one point; or
	From   time.Time `json:"from,omitzero"`    // every point that restoring a moment of a span needs
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason"` // 10 to 1000 characters
	Ticket string    `json:"ticket"`
}

// Filter selects points, runs or drills, the newest first.
type Filter struct {
	Subject Subject
	Target  string
	Kind    Kind      // of runs
	Since   time.Time // zero: from the beginning
	Gone    bool      // points that are no more, too
	Limit   int       // 0: 100; at most 1000
}
