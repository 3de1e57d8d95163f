// Package clock knows which clocks an incident has set going, when each runs
// out, who hears of it before that, and what has ended it.
//
// It is pure: rules come from the plan, facts from the timeline, and the
// present from the caller. Nothing is counted down and nothing is kept, so a
// restart or another leader changes nothing. A clock stands as long as the
// fact that started it is in the timeline, and what is there is never taken
// out; it ends by a fact of its own that names its evidence, and by nothing
// else (invariant 12).
package clock

import (
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Kind is what a clock is about.
type Kind string

// Kinds of clocks.
const (
	Detection    Kind = "detection"     // until it was noticed
	Confirmation Kind = "confirmation"  // until somebody says that it is so
	RTO          Kind = "rto"           // until a function is back
	RPO          Kind = "rpo"           // how much of the latest data is exposed
	MTD          Kind = "mtd"           // until the harm is not acceptable
	Notice       Kind = "notice"        // until a client, a person or an insurer was told
	Regulator    Kind = "regulator"     // GDPR article 33(1): the controller tells the authority
	Controller   Kind = "controller"    // GDPR article 33(2): the processor tells the controller
	Subjects     Kind = "data-subjects" // GDPR article 34: people are told of a high risk
	Update       Kind = "update"        // until those told hear again; begins anew with each
	Isolation    Kind = "isolation"     // until a node is quarantined
	Restoration  Kind = "restoration"   // until all is as it was
	Review       Kind = "review"        // until the review was held
)

// Names of facts that start or end clocks. Of names what a fact is about.
const (
	Start            = "start"             // it began; of "" or a function
	Detected         = "detection"         // it was noticed
	Aware            = "awareness"         // it is known that personal data are in it
	Confirmed        = "confirmation"      // somebody has said that it is so
	ScopeKnown       = "scope-known"       // it is known what it has reached
	Contained        = "containment"       // it spreads no further
	Lost             = "lost"              // a function is down, at first or again
	Restored         = "restored"          // a function is back
	AllRestored      = "restored-all"      // all is as it was
	Told             = "notice-sent"       // of a recipient
	Updated          = "update-sent"       // of a recipient
	BreachTold       = "breach-told"       // of a controller, that personal data are in it
	RegulatorTold    = "regulator-told"    // of a regime
	SubjectsTold     = "subjects-told"     // those whose data it is
	NoRisk           = "no-risk"           // assessed: article 33(1), unlikely to result in a risk
	Risk             = "risk"              // assessed: a risk, or not known yet
	Isolated         = "isolated"          // a node is quarantined
	Acknowledged     = "acknowledged"      // a person has answered
	Reviewed         = "review-held"       //
	RootCause        = "root-cause"        // why it happened is known
	Compromised      = "compromise"        // since when nothing can be trusted
	RecoverablePoint = "recoverable-point" // up to which a function's data can be brought back
	RecoveredPoint   = "recovered-point"   // up to which they were, proven
	Unfounded        = "unfounded"         // there was nothing: a false alarm
)

// Ref names a fact: "restored" of "platform".
type Ref struct {
	Name string `json:"fact"`
	Of   string `json:"of,omitempty"`
}

// Fact is something that was so, as an entry of the timeline says.
type Fact struct {
	Ref
	At       time.Time `json:"at"`                 // when it was so
	Recorded time.Time `json:"recorded_at"`        // when it was written down
	Entry    int       `json:"entry"`              // which entry says so
	Evidence []string  `json:"evidence,omitempty"` // what shows it; a clock does not end without
}

// Rule is one clock before anything has happened. It is written into the
// timeline when the clock is set up, so that a later plan cannot take it away.
type Rule struct {
	ID       string   `json:"id"` // stable: "rto/platform"
	Kind     Kind     `json:"kind"`
	Of       string   `json:"of,omitempty"`
	Title    string   `json:"title"`
	Bounds   []Bound  `json:"bounds"` // the one that ends first counts
	Ends     []Ref    `json:"ends"`
	Reopens  []Ref    `json:"reopens,omitempty"` // facts that undo an ending
	Escalate []Stage  `json:"escalate,omitempty"`
	Sources  []string `json:"sources,omitempty"`
}

// Bound is one promise of how long something may take.
type Bound struct {
	From     Ref       `json:"from"` // the fact that starts it
	Within   plan.Span `json:"within"`
	Calendar string    `json:"calendar,omitempty"` // country whose business days count, where it is in such days
	Source   []string  `json:"source,omitempty"`   // clauses
	Law      string    `json:"law,omitempty"`
	At       string    `json:"at,omitempty"`      // path in the plan, where it comes from there
	Assumed  bool      `json:"assumed,omitempty"` // nobody gives a number: this one stands in, and is named
}

// Stage says who hears of a clock when a share of its time is over.
type Stage struct {
	Share float64  `json:"share"` // 0.5: half; 1: it has run out
	Who   []string `json:"who"`   // roles of the incident and people of the plan
}

// State is how a clock stands.
type State string

// States of a clock.
const (
	Waiting State = "waiting" // what starts it has not happened
	Running State = "running"
	Expired State = "expired" // it has run out, and nothing has ended it
	Met     State = "met"     // ended in time
	Missed  State = "missed"  // ended too late
	Unclear State = "unclear" // what it counts from is not known: never counted as met
	Void    State = "void"    // there was nothing
)

// Reading is a clock at an instant.
type Reading struct {
	Rule
	State   State         `json:"state"`
	Started *Fact         `json:"started,omitempty"`
	Due     time.Time     `json:"due,omitzero"`
	Bound   *Bound        `json:"bound,omitempty"` // the one that counts
	Ended   *Fact         `json:"ended,omitempty"`
	Took    time.Duration `json:"took"`                         // since the start, until its end or now
	Left    time.Duration `json:"left"`                         // until it runs out; negative after that; 0 where it does not run
	Count   int           `json:"late,omitempty"`               // for updates: how often one came too late
	After   bool          `json:"written_afterwards,omitempty"` // its end is said to be in time, and was written down after the bound
	Steps   []Escalation  `json:"escalations,omitempty"`
	Says    string        `json:"says"`
}

// Escalation is an instant at which somebody has to hear of a clock.
type Escalation struct {
	Clock string    `json:"clock"`
	Round int       `json:"round,omitempty"` // of an update clock, that begins anew
	Share float64   `json:"share"`
	At    time.Time `json:"at"`
	Who   []string  `json:"who"`
}

// Key names an escalation for good: it is told once.
type Key struct {
	Clock string
	Round int
	Share float64
}

// Key names the escalation.
func (e Escalation) Key() Key { return Key{e.Clock, e.Round, e.Share} }

// Over says whether nothing more is expected of the clock.
func (r Reading) Over() bool { return r.State == Met || r.State == Missed || r.State == Void }

// Pending lists what has to be told now and was not: told holds what was. Of
// several shares of one clock that are due together only the last is worth a
// message; the others are returned as passed over.
func Pending(clocks []Reading, told map[Key]bool, now time.Time) (tell, passed []Escalation) {
	for i := range clocks {
		var last *Escalation
		for k := range clocks[i].Steps {
			s := &clocks[i].Steps[k]
			if s.At.After(now) || told[s.Key()] {
				continue
			}
			if last != nil {
				passed = append(passed, *last)
			}
			last = s
		}
		if last != nil {
			tell = append(tell, *last)
		}
	}
	return tell, passed
}
