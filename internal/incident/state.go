package incident

import (
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// State is an incident as its timeline tells it.
type State struct {
	ID        string             `json:"id"`
	Title     string             `json:"title"`
	Category  Category           `json:"category"`
	Mode      Mode               `json:"mode"`
	Scenario  string             `json:"scenario,omitempty"`
	Plan      string             `json:"plan,omitempty"` // hash of the revision in force when it was opened
	OpenedAt  time.Time          `json:"opened_at"`
	OpenedBy  string             `json:"opened_by"`
	Approvals int                `json:"approvals_needed"` // different people, for what needs approval
	Phase     Phase              `json:"phase"`
	Since     time.Time          `json:"phase_since"`
	Roles     map[Role]string    `json:"roles"`
	Scope     Scope              `json:"scope"`
	Signals   []SignalSeen       `json:"signals,omitempty"`
	Facts     []clock.Fact       `json:"facts,omitempty"`
	Rules     []clock.Rule       `json:"rules,omitempty"`
	Told      map[clock.Key]bool `json:"-"` // escalations that were made
	Once      map[string]int     `json:"-"` // acts that have a name of their own, and their entries
	Decisions []Decided          `json:"decisions,omitempty"`
	Assessed  []Assessed         `json:"assessments,omitempty"`
	Isolated  []Quarantine       `json:"quarantine,omitempty"` // the latest of each node
	Evidence  []Held             `json:"evidence,omitempty"`
	OnHold    bool               `json:"legal_hold"`
	Notices   []Sent             `json:"notices,omitempty"`
	Actions   []Action           `json:"actions,omitempty"` // the latest of each
	Review    *Review            `json:"review,omitempty"`
	Revisions []PlanRevision     `json:"plan_revisions,omitempty"`
	ClosedAt  time.Time          `json:"closed_at,omitzero"`
	Anchored  Anchor             `json:"anchored"`         // the last
	Unread    []int              `json:"unread,omitempty"` // entries that a newer member wrote and this one cannot read
	Skewed    []int              `json:"skewed,omitempty"` // entries written "before" the one they follow, by more than clocks may differ
	Stirred   int                `json:"-"`                // the last entry that is no anchor
	Head      Head               `json:"head"`
	Last      time.Time          `json:"last_at"`
}

// Head is the end of a timeline.
type Head struct {
	N    int  `json:"n"`
	Hash Hash `json:"hash"`
}

// SignalSeen is a signal and its entry.
type SignalSeen struct {
	Signal
	Entry int `json:"entry"`
}

// skew is how far clocks of nodes may differ without a word.
const skew = 5 * time.Second

// Fold reckons the incident from its timeline. It neither fails nor asks
// anything: the same entries give the same state on every node. Check them
// with [Verify] first.
func Fold(entries []Entry) *State {
	s := &State{Phase: Detection, Mode: Real, Approvals: 1, Roles: map[Role]string{}, Told: map[clock.Key]bool{}, Once: map[string]int{}}
	for i := range entries {
		s.Apply(&entries[i])
	}
	return s
}

// Apply adds the next entry.
func (s *State) Apply(e *Entry) {
	if e.At.Before(s.Last.Add(-skew)) {
		s.Skewed = append(s.Skewed, e.N)
	}
	if e.At.After(s.Last) {
		s.Last = e.At
	}
	s.Head = Head{e.N, e.Hash}
	if e.Kind != KindAnchor {
		s.Stirred = e.N
	}
	b := e.Read()
	if b == nil {
		s.Unread = append(s.Unread, e.N)
		return
	}
	b.apply(s, e)
}

// Check refuses a body that the incident, as it stands, does not allow.
func (s *State) Check(b Body, by string, at time.Time) error {
	first := b.kind() == KindOpened
	switch {
	case first && s.Head.N > 0:
		return refuse("incident-open", "The incident is open already.", "Append to it, or open another.")
	case !first && s.Head.N == 0:
		return ErrUnknown
	case !s.ClosedAt.IsZero() && !slices.Contains(afterwards, b.kind()):
		return ErrOver
	}
	return b.check(s, by, at)
}

// afterwards are the kinds of entries that a closed incident still takes: what
// its review asked for is done later, and holds outlive it.
var afterwards = []Kind{KindAction, KindAnchor, KindHold, KindNote, KindRevision}

// Clocks reads every clock at an instant, which is never before the last
// entry: a node whose clock was set back wins no time.
func (s *State) Clocks(now time.Time) []clock.Reading {
	if s.Last.After(now) {
		now = s.Last
	}
	return clock.Read(s.Rules, s.Facts, now)
}

// Known finds the last fact of a name, or nil.
func (s *State) Known(name, of string) *clock.Fact {
	for i := len(s.Facts) - 1; i >= 0; i-- {
		if s.Facts[i].Ref == (clock.Ref{Name: name, Of: of}) {
			return &s.Facts[i]
		}
	}
	return nil
}

// fact records one that an entry states. None is later than its entry: nodes'
// clocks may differ, and what was said has happened.
func (s *State) fact(e *Entry, name, of string, at time.Time, evidence ...string) {
	if at.IsZero() || at.After(e.At) {
		at = e.At
	}
	s.Facts = append(s.Facts, clock.Fact{Ref: clock.Ref{Name: name, Of: of}, At: at, Recorded: e.At, Entry: e.N, Evidence: evidence})
}
