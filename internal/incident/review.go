package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// Action is something that an incident left to be done. It has an owner and a
// date; the same id again changes it.
type Action struct {
	ID     string    `json:"id"`
	Title  string    `json:"title"`
	Owner  string    `json:"owner"`
	Due    time.Time `json:"due"`
	Done   time.Time `json:"done_at,omitzero"`
	Shown  string    `json:"shown_by,omitempty"` // what shows that it is done
	Moved  string    `json:"moved,omitempty"`    // why its date was put off
	Source string    `json:"source,omitempty"`   // the gap that it closes
}

func (*Action) kind() Kind { return KindAction }

func (b *Action) check(s *State, _ string, at time.Time) error {
	if b.ID == "" {
		return invalid("id", "An action has an id.", "Use a short one, such as A1.")
	}
	if err := said("title", b.Title); err != nil {
		return err
	}
	old := s.action(b.ID)
	switch {
	case b.Owner == "":
		return refuse("incident-action-unowned", "An action without an owner is nobody's.", "Name who does it.")
	case b.Due.IsZero() || old == nil && !b.Due.After(at):
		return refuse("incident-action-undated", "An action has a date ahead of it.", "Say until when it is done.")
	case old != nil && b.Due.After(old.Due) && b.Moved == "":
		return refuse("incident-action-moved", "Its date is put off, and nothing says why.", "Say why.")
	case !b.Done.IsZero() && b.Shown == "":
		return refuse("incident-action-unshown", "It is said to be done, and nothing shows it.", "Name a commit, an entry, an observation.")
	case !b.Done.IsZero():
		return notAhead("done_at", b.Done, at)
	}
	return nil
}

func (b *Action) apply(s *State, _ *Entry) {
	if old := s.action(b.ID); old != nil {
		*old = *b
		return
	}
	s.Actions = append(s.Actions, *b)
}

func (s *State) action(id string) *Action {
	for i := range s.Actions {
		if s.Actions[i].ID == id {
			return &s.Actions[i]
		}
	}
	return nil
}

// Late lists the actions that are past their date.
func (s *State) Late(now time.Time) (out []Action) {
	for _, a := range s.Actions {
		if a.Done.IsZero() && now.After(a.Due) {
			out = append(out, a)
		}
	}
	return out
}

// Review is what was learnt (O-28).
type Review struct {
	Held      time.Time `json:"held_at"`
	Attended  []string  `json:"attended"` // roles or people of the plan
	Cause     string    `json:"cause"`
	Went      string    `json:"went_well"`
	Failed    string    `json:"went_badly"`
	Lessons   string    `json:"lessons"`
	NoActions string    `json:"no_actions,omitempty"` // why nothing has to change
}

func (*Review) kind() Kind { return KindReview }

func (b *Review) check(s *State, _ string, at time.Time) error {
	if s.Phase != InReview {
		return refuse("incident-review-early", fmt.Sprintf("The incident is in the phase %s: the review comes last.", s.Phase), "Go on to the phase review first.")
	}
	if err := notAhead("held_at", b.Held, at); err != nil {
		return err
	}
	if len(b.Attended) == 0 {
		return invalid("attended", "Nobody was there.", "Name who held the review.")
	}
	for field, text := range map[string]string{"cause": b.Cause, "went_well": b.Went, "went_badly": b.Failed, "lessons": b.Lessons} {
		if err := said(field, text); err != nil {
			return err
		}
	}
	return nil
}

func (b *Review) apply(s *State, e *Entry) {
	s.Review = b
	s.fact(e, clock.Reviewed, "", b.Held, entryRef(e))
}

// PlanRevision names a revision of the plan that cites this incident (O-75).
type PlanRevision struct {
	Hash  string `json:"hash"`
	Words string `json:"words"` // what was changed for it
}

func (*PlanRevision) kind() Kind { return KindRevision }

func (b *PlanRevision) check(s *State, _ string, _ time.Time) error {
	if b.Hash == "" {
		return invalid("hash", "Which revision?", "Give its hash, as `foundry plan show` prints it.")
	}
	if b.Hash == s.Plan {
		return refuse("incident-plan-same", "That is the plan as it was when this began.", "Change what failed, have it approved, and give the hash of the new revision.")
	}
	return said("words", b.Words)
}

func (b *PlanRevision) apply(s *State, _ *Entry) { s.Revisions = append(s.Revisions, *b) }

// Closing ends the incident.
type Closing struct {
	Words string `json:"words,omitempty"`
}

func (*Closing) kind() Kind { return KindClosed }

func (b *Closing) check(s *State, _ string, at time.Time) error {
	if missing := s.Missing(at); len(missing) > 0 {
		return missing[0]
	}
	return nil
}

func (b *Closing) apply(s *State, e *Entry) { s.Phase, s.ClosedAt, s.Since = Closed, e.At, e.At }

// Missing lists everything that keeps the incident from being closed.
func (s *State) Missing(now time.Time) (out []error) {
	add := func(when bool, code, detail, mend string) {
		if when {
			out = append(out, refuse(code, detail, mend))
		}
	}
	unfounded := s.Known(clock.Unfounded, "") != nil
	add(s.Phase != InReview && !unfounded, "incident-close-early", fmt.Sprintf("The incident is in the phase %s: it is closed after its review.", s.Phase), "Go through the phases that are left.")
	add(s.Review == nil && !unfounded, "incident-unreviewed", "There was no review.", "Hold it, and record it: `foundry incident review`.")
	add(s.Review != nil && len(s.Actions) == 0 && s.Review.NoActions == "", "incident-without-actions", "The review left nothing to do, and does not say why.", "Record actions with owner and date, or say in the review why nothing has to change.")
	add(len(s.Revisions) == 0 && !unfounded && s.Mode == Real && !s.Approved("no-plan-change", ""), "incident-plan-unchanged", "No revision of the plan cites this incident.", "Give the hash of one that does, or record a decision about \"no-plan-change\" and have it approved.")
	add(s.secure() && s.Assessment() == nil && !unfounded, "incident-unassessed", "Nobody has said whether personal data are in it.", "Assess that: `foundry incident assess`.")
	for _, r := range s.Clocks(now) {
		duty := slices.Contains([]clock.Kind{clock.Notice, clock.Regulator, clock.Controller, clock.Subjects, clock.RTO, clock.MTD, clock.Restoration}, r.Kind)
		add(duty && (r.State == clock.Running || r.State == clock.Expired) && !(r.Kind == clock.Notice && s.Approved("no-notice", r.Of)), "incident-clock-open", fmt.Sprintf("The clock %q still runs.", r.ID),
			"Do what ends it and record that with what shows it; closing an incident stops no clock.")
	}
	add(s.Approvals > 1 && !s.Approved("close", ""), "incident-close-unapproved", fmt.Sprintf("The plan asks for %d people.", s.Approvals), "Record a decision about \"close\" and have it approved.")
	return out
}

// Anchor notes that the head of the timeline is in the audit log.
type Anchor struct {
	N    int  `json:"n"`
	Hash Hash `json:"hash"`
}

func (*Anchor) kind() Kind { return KindAnchor }

func (b *Anchor) check(s *State, _ string, _ time.Time) error {
	if b.N < 1 || b.N > s.Head.N {
		return invalid("n", "There is no such entry.", "Anchor what there is.")
	}
	return nil
}

func (b *Anchor) apply(s *State, _ *Entry) {
	if b.N > s.Anchored.N {
		s.Anchored = *b
	}
}
