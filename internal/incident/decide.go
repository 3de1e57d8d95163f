package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Decision is what somebody decided, and why. Where it needs approval it
// counts when it has it.
type Decision struct {
	About   string   `json:"about"` // what it allows: restore, wipe, no-notice, close, unfounded, …; or any word
	Target  string   `json:"target,omitempty"`
	Words   string   `json:"words"`
	Options []string `json:"options,omitempty"` // what else there was
	Needs   int      `json:"needs,omitempty"`   // approvals; 0: as many as the incident asks for
}

// Decided is a decision and what became of it.
type Decided struct {
	Decision
	Entry    int       `json:"entry"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	For      []string  `json:"approved_by,omitempty"`
	Against  []string  `json:"rejected_by,omitempty"`
	Approved bool      `json:"approved"`
}

// liftQuarantine is the decision that a node may be opened again.
const liftQuarantine = "lift-quarantine"

// gated are the decisions that open a gate: they need approval. Any other is
// a record of what was decided, and stands by itself.
var gated = []string{"restore", "restore-before-cause", "wipe", "lift-hold", "no-isolation", "no-notice", "no-plan-change", "close", "unfounded", "notice", liftQuarantine}

func (*Decision) kind() Kind { return KindDecision }

func (b *Decision) check(s *State, _ string, _ time.Time) error {
	if b.About == "" {
		return invalid("about", "A decision is about something.", "Name it: "+strings.Join(gated, ", ")+", or a word of your own.")
	}
	if b.Needs != 0 && b.Needs < s.Approvals {
		return refuse("incident-approvals-few", fmt.Sprintf("The plan asks for %d approvals.", s.Approvals), "Leave the number out, or give a larger one.")
	}
	return said("words", b.Words)
}

func (b *Decision) apply(s *State, e *Entry) {
	d := Decided{Decision: *b, Entry: e.N, By: e.By, At: e.At, Approved: !slices.Contains(gated, b.About)}
	d.Needs = max(b.Needs, s.Approvals)
	if d.Approved {
		d.Needs = 0
	}
	s.Decisions = append(s.Decisions, d)
}

// Approval is one person's word on a decision.
type Approval struct {
	Of      int    `json:"of"` // the decision's entry
	Approve bool   `json:"approve"`
	Words   string `json:"words,omitempty"`
}

func (*Approval) kind() Kind { return KindApproval }

// check wants somebody whose word is not there yet. Where several must approve,
// each has signed in as a person: whoever sits at the machine itself is nobody
// in particular, and could be the same one again. Who proposed may be one of
// them, and is never all.
func (b *Approval) check(s *State, by string, _ time.Time) error {
	d := s.decided(b.Of)
	if d == nil {
		return invalid("of", fmt.Sprintf("Entry %d is no decision.", b.Of), "`foundry incident show` lists the decisions that wait.")
	}
	switch {
	case d.Needs == 0:
		return refuse("incident-approval-idle", "This decision needs no approval.", "It stands since it was recorded.")
	case slices.Contains(d.For, by) || slices.Contains(d.Against, by):
		return refuse("incident-approved-twice", "You have said so already: approvals come from different people.", "Let somebody else look at it.")
	case d.Needs > 1 && !strings.HasPrefix(by, "person:"):
		return refuse("incident-approver-unknown", "The plan asks for more than one person, and this is nobody who signed in.", "Sign in as yourself with `foundry login`.")
	case !b.Approve:
		return said("words", b.Words)
	}
	return nil
}

func (b *Approval) apply(s *State, e *Entry) {
	d := s.decided(b.Of)
	if d == nil || slices.Contains(d.For, e.By) || slices.Contains(d.Against, e.By) {
		return
	}
	if b.Approve {
		d.For = append(d.For, e.By)
	} else {
		d.Against = append(d.Against, e.By)
	}
	d.Approved = d.Needs == 0 || len(d.For) >= d.Needs && len(d.Against) == 0
}

func (s *State) decided(entry int) *Decided {
	for i := range s.Decisions {
		if s.Decisions[i].Entry == entry {
			return &s.Decisions[i]
		}
	}
	return nil
}

// approvedSince says whether a decision about something stands that was made
// after a moment.
func (s *State) approvedSince(about, target string, since time.Time) bool {
	for i := len(s.Decisions) - 1; i >= 0; i-- {
		if d := &s.Decisions[i]; d.About == about && d.Target == target {
			return d.Approved && !d.At.Before(since)
		}
	}
	return false
}

// Approved says whether the last decision about something stands.
func (s *State) Approved(about, target string) bool {
	for i := len(s.Decisions) - 1; i >= 0; i-- {
		if d := &s.Decisions[i]; d.About == about && d.Target == target {
			return d.Approved
		}
	}
	return false
}
