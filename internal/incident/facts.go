package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
)

// Fact is something that was so, which clocks and gates go by.
type Fact struct {
	Fact     string    `json:"fact"` // one of the names in the package clock
	Of       string    `json:"of,omitempty"`
	At       time.Time `json:"at"`
	Evidence []string  `json:"evidence,omitempty"` // entry:7, vault:<sha256>, observation:<id>, receipt:<id>
	Words    string    `json:"words,omitempty"`
}

// free are the facts that may be recorded as such. The others follow from
// entries of their own kind: a notice, a quarantine, an assessment, a review.
var free = []string{clock.Start, clock.Aware, clock.Confirmed, clock.ScopeKnown, clock.Contained, clock.Lost, clock.Restored, clock.AllRestored,
	clock.Acknowledged, clock.RootCause, clock.Compromised, clock.RecoverablePoint, clock.RecoveredPoint, clock.Unfounded}

// shown are those of them that count only with evidence.
var shown = []string{clock.Confirmed, clock.Contained, clock.Restored, clock.AllRestored, clock.Acknowledged, clock.RootCause, clock.RecoverablePoint, clock.RecoveredPoint, clock.Unfounded}

func (*Fact) kind() Kind { return KindFact }

func (b *Fact) check(s *State, _ string, at time.Time) error {
	if !slices.Contains(free, b.Fact) {
		return invalid("fact", fmt.Sprintf("%q is no fact that can be recorded as such.", b.Fact), "Notices, quarantine, assessments and reviews have commands of their own.")
	}
	if err := notAhead("at", b.At, at); err != nil {
		return err
	}
	if slices.Contains(shown, b.Fact) {
		if len(b.Evidence) == 0 {
			return refuse("incident-fact-unproven", fmt.Sprintf("%q ends a clock or opens a gate, and counts only with what shows it.", b.Fact), "Name an entry, a piece of evidence, an observation or a receipt.")
		}
		if err := s.refers(b.Evidence); err != nil {
			return err
		}
	}
	switch b.Fact {
	case clock.Confirmed:
		return s.confirmable()
	case clock.AllRestored:
		for _, name := range s.Scope.Functions {
			if !s.up(name) {
				return refuse("incident-not-restored", fmt.Sprintf("%s is not back.", name), "Record that it is restored, with what shows it, before everything is.")
			}
		}
	case clock.Unfounded:
		if !s.Approved("unfounded", "") {
			return refuse("incident-unfounded-unapproved", "A false alarm ends every clock, that of the regulator too: it is decided and approved first.", "Record a decision about \"unfounded\" and have it approved.")
		}
	}
	return nil
}

func (b *Fact) apply(s *State, e *Entry) { s.fact(e, b.Fact, b.Of, b.At, b.Evidence...) }

// confirmable wants two signals that do not depend on each other: of
// different kinds, and from different observers (O-49).
func (s *State) confirmable() error {
	for i := range s.Signals {
		for k := range s.Signals[:i] {
			a, b := &s.Signals[i], &s.Signals[k]
			if !a.OK && !b.OK && a.Source != b.Source && a.From != b.From {
				return nil
			}
		}
	}
	return refuse("incident-one-signal", "One kind of signal, or one observer, confirms nothing: a probe may fail where the service does not.",
		"Record a second signal of another kind and from somebody else, such as an attempt over SSH beside the probe.")
}

// up says whether a function is back: restored, and not lost since.
func (s *State) up(name string) bool {
	for i := len(s.Facts) - 1; i >= 0; i-- {
		switch s.Facts[i].Ref {
		case clock.Ref{Name: clock.Restored, Of: name}:
			return true
		case clock.Ref{Name: clock.Lost, Of: name}:
			return false
		}
	}
	return true // it never was down
}

// PhaseChange goes on to the next phase.
type PhaseChange struct {
	To    Phase  `json:"to"`
	Words string `json:"words,omitempty"`
}

func (*PhaseChange) kind() Kind { return KindPhase }

func (b *PhaseChange) check(s *State, _ string, _ time.Time) error {
	now, to := slices.Index(Phases, s.Phase), slices.Index(Phases, b.To)
	switch {
	case to < 0 || b.To == Closed:
		return invalid("to", fmt.Sprintf("There is no phase %q to go to.", b.To), "Use containment, investigation, remediation or review; `foundry incident close` ends the review.")
	case to <= now:
		return refuse("incident-phase-back", fmt.Sprintf("The incident is in the phase %s; phases do not come back.", s.Phase), "What is found later is recorded in the phase that it is found in.")
	case to > now+1:
		return refuse("incident-phase-skipped", fmt.Sprintf("After %s comes %s: no phase is skipped.", s.Phase, Phases[now+1]), fmt.Sprintf("Go to %s first.", Phases[now+1]))
	}
	return s.leave()
}

// leave says what is missing before the phase can be left.
func (s *State) leave() error {
	need := func(name, what, mend string) error {
		if f := s.Known(name, ""); f != nil && f.Ends() {
			return nil
		}
		return refuse("incident-phase-unfinished", what, mend)
	}
	switch s.Phase {
	case Detection:
		if s.Roles[Lead] == "" {
			return refuse("incident-lead-missing", "Nobody leads the incident.", "Give somebody the role lead.")
		}
		return need(clock.Confirmed, "It is not confirmed.", "Record the confirmation, with two signals that do not depend on each other.")
	case Containment:
		for _, node := range s.unisolated() {
			return refuse("incident-not-isolated", node+" is not isolated.", "Record its quarantine, or a decision to leave it, approved.")
		}
		return need(clock.Contained, "It is not contained.", "Record the containment and what shows it.")
	case Investigation:
		if s.Approved("restore-before-cause", "") && !s.secure() {
			return nil
		}
		return need(clock.RootCause, "Its cause is not known.", "Record the cause and what shows it; for an outage, a decision about \"restore-before-cause\" will do, approved.")
	case Remediation:
		return need(clock.AllRestored, "Not everything is restored.", "Record that everything is as it was, and what shows it.")
	}
	return nil
}

// secure says whether somebody may have been where they should not.
func (s *State) secure() bool {
	return s.Category == Security || s.Category == Personal || s.Known(clock.Compromised, "") != nil
}

func (b *PhaseChange) apply(s *State, e *Entry) { s.Phase, s.Since = b.To, e.At }
