// Package incident knows what is going wrong now, and who did what.
//
// An incident is a timeline: entries that are only ever appended, each holding
// the hash of the one before. Everything else is reckoned from it: phase,
// roles, clocks, notices, what is quarantined, what may be destroyed. The
// timeline lies sealed in the fleet's store, so it goes on while the database
// is down; when that is back, its head goes into the audit tree.
package incident

import (
	"github.com/missionopsai/foundry/internal/problem"
)

// Kind is what an entry is.
type Kind string

// Kinds of entries. A newer member may write others: they stay in the chain,
// are shown, and change nothing here.
const (
	KindOpened     Kind = "opened"
	KindSignal     Kind = "signal"
	KindAct        Kind = "act"
	KindNote       Kind = "note"
	KindFact       Kind = "fact"
	KindPhase      Kind = "phase"
	KindRole       Kind = "role"
	KindScope      Kind = "scope"
	KindDecision   Kind = "decision"
	KindApproval   Kind = "approval"
	KindAssessment Kind = "assessment"
	KindQuarantine Kind = "quarantine"
	KindEvidence   Kind = "evidence"
	KindHold       Kind = "hold"
	KindNotice     Kind = "communication"
	KindClock      Kind = "clock"
	KindAction     Kind = "action"
	KindReview     Kind = "review"
	KindRevision   Kind = "plan-revision"
	KindAnchor     Kind = "anchor"
	KindClosed     Kind = "closed"
)

// Phase is how far an incident has come (security policy, section 6). Phases
// follow each other; none is skipped, and none comes back.
type Phase string

// Phases of an incident, in their order.
const (
	Detection     Phase = "detection"
	Containment   Phase = "containment"
	Investigation Phase = "investigation"
	Remediation   Phase = "remediation"
	InReview      Phase = "review"
	Closed        Phase = "closed"
)

// Phases lists them in order.
var Phases = []Phase{Detection, Containment, Investigation, Remediation, InReview, Closed}

// Role is what somebody does in an incident.
type Role string

// Roles of an incident.
const (
	Lead           Role = "lead"
	Deputy         Role = "deputy"
	Scribe         Role = "scribe"
	Communications Role = "communications"
)

// Roles lists them.
var Roles = []Role{Lead, Deputy, Scribe, Communications}

// Category is what kind of incident it is; the names are those of the events
// of a plan's notices.
type Category string

// Categories of incidents.
const (
	Outage       Category = "outage"
	Security     Category = "security-incident"
	Personal     Category = "personal-data-breach"
	SupplierLoss Category = "supplier-loss"
	PersonAway   Category = "person-away"
)

// Mode is whether it is real.
type Mode string

// Modes of an incident. Everything but a real one is shown as such everywhere.
const (
	Real    Mode = "real"
	Desktop Mode = "desktop"
	Sandbox Mode = "sandbox"
	Live    Mode = "live" // a game day on the real fleet
)

// Sentinels of the package. Each is a *problem.Error.
var (
	ErrUnknown = problem.New(problem.NotFound, "incident-unknown", "There is no such incident.").WithMend("`foundry incident list` shows those that there are.")
	ErrOver    = problem.New(problem.Conflict, "incident-closed", "The incident is closed: its timeline takes no more entries.").WithMend("Open another, and name this one in it.")
	ErrBroken  = problem.New(problem.Conflict, "incident-changed", "The timeline is not what was written.").WithMend("Compare with an earlier export, and with the heads in the audit log.")
)

// refuse says which rule forbids something and what would mend it.
func refuse(code, detail, mend string) *problem.Error {
	return problem.New(problem.Conflict, code, detail).WithMend(mend)
}

func invalid(field, detail, mend string) *problem.Error {
	return problem.New(problem.Invalid, "incident-entry", detail).WithField(field).WithMend(mend)
}
