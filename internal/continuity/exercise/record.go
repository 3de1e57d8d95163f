// Package exercise knows what came of an exercise: what was done, what was
// seen, what was measured against which target, and where each of that stands
// in a timeline that cannot be changed unseen. It makes the report of it.
package exercise

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
)

// Outcome is how an exercise ended.
type Outcome string

// Outcomes. A target that could not be measured is not kept: such an exercise
// is inconclusive, never passed.
const (
	Passed       Outcome = "passed"
	Missed       Outcome = "missed"       // it went to its end, and a target was missed
	Failed       Outcome = "failed"       // something that had to be so was not
	Inconclusive Outcome = "inconclusive" // it went to its end, and something was not measured
	Aborted      Outcome = "aborted"
)

// Record is an exercise from beginning to end.
type Record struct {
	Version  int           `json:"version"`
	ID       string        `json:"id"`
	Scenario string        `json:"scenario"`
	Title    string        `json:"title"`
	Source   []string      `json:"source,omitempty"`
	Text     string        `json:"scenario_text"` // as it was run
	Mode     scenario.Mode `json:"mode"`
	Program  string        `json:"program"`                // version of Foundry
	Machine  string        `json:"machine,omitempty"`      // where: cores, load, network
	With     []string      `json:"participants,omitempty"` // at a desk
	Began    time.Time     `json:"began_at"`
	Event    time.Time     `json:"event_at,omitzero"` // when it was broken first
	Ended    time.Time     `json:"ended_at,omitzero"`
	Outcome  Outcome       `json:"outcome"`
	Words    string        `json:"words"`

	Fleet    []Node    `json:"fleet,omitempty"`
	Steps    []Step    `json:"steps"`
	Measures []Measure `json:"measures,omitempty"`
	Facts    []Fact    `json:"facts,omitempty"` // what else is to be known: losses, gates, notices
	Gaps     []Gap     `json:"gaps,omitempty"`
	Moments  []Moment  `json:"moments,omitempty"`

	Timelines []Source `json:"timelines"` // that the references are of
}

// Node is one of the machines of the exercise.
type Node struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// Step is one step of the scenario and how it went.
type Step struct {
	Title string    `json:"title"`
	Began time.Time `json:"began_at"`
	Ended time.Time `json:"ended_at,omitzero"`
	Lines []Line    `json:"lines"`
}

// Line is one line of a step and how it went.
type Line struct {
	Says  string        `json:"says"`
	Began time.Time     `json:"began_at"`
	Took  time.Duration `json:"took_ns"`
	Clock time.Duration `json:"clock_ns,omitempty"` // of the exercise, at a desk
	OK    bool          `json:"ok"`
	Words string        `json:"words,omitempty"` // what came of it
	From  Ref           `json:"from"`
}

// Ref names an entry of a timeline: which timeline, and which number.
type Ref struct {
	Timeline string `json:"timeline"`
	N        int    `json:"n"`
}

// String is how a reference is shown: exc-20261123-k3x9qa #12.
func (r Ref) String() string { return fmt.Sprintf("%s #%d", r.Timeline, r.N) }

// Measure is what was measured, against its target.
type Measure struct {
	Name    string        `json:"name"`
	Says    string        `json:"says"` // from what to what
	Counted bool          `json:"counted,omitempty"`
	Took    time.Duration `json:"took_ns,omitempty"`
	Count   int64         `json:"count,omitempty"`
	Known   bool          `json:"known"`
	Why     string        `json:"why,omitempty"` // why it is not known
	Aimed   bool          `json:"has_target"`
	Within  time.Duration `json:"target_ns,omitempty"`
	AtMost  int64         `json:"target_count,omitempty"`
	From    []Ref         `json:"from,omitempty"`
}

// Kept reports whether a target is reached; one that is not known is not.
func (m *Measure) Kept() bool {
	switch {
	case !m.Known:
		return false
	case m.Counted:
		return m.Count <= m.AtMost
	}
	return m.Took <= m.Within
}

// Fact is something that the exercise showed.
type Fact struct {
	About string `json:"about"`
	Says  string `json:"says"`
	Good  bool   `json:"good"`
	From  []Ref  `json:"from,omitempty"`
}

// Gap is something that was missing, and becomes an action with an owner.
type Gap struct {
	Says  string    `json:"says"`
	Owner string    `json:"owner,omitempty"`
	Due   time.Time `json:"due,omitzero"`
	From  Ref       `json:"from"`
}

// Moment is something that happened, for the picture of the whole.
type Moment struct {
	At   time.Time `json:"at"`
	Says string    `json:"says"`
	Kind string    `json:"kind"` // event, seen, done, told
	From Ref       `json:"from"`
}

// Source is a timeline that the record refers to.
type Source struct {
	ID      string        `json:"id"`
	Title   string        `json:"title"`
	Entries int           `json:"entries"`
	Head    incident.Hash `json:"head"`
	File    string        `json:"file"`
}

// Judge sets the outcome from what is recorded.
func (r *Record) Judge() {
	var missed, unknown int
	for i := range r.Measures {
		switch m := &r.Measures[i]; {
		case !m.Aimed || m.Known && m.Kept():
		case m.Known:
			missed++
		default:
			unknown++
		}
	}
	failed := slices.ContainsFunc(r.Steps, func(s Step) bool { return slices.ContainsFunc(s.Lines, func(l Line) bool { return !l.OK }) })
	switch {
	case r.Outcome == Aborted:
	case failed:
		r.Outcome, r.Words = Failed, "Something that had to be so was not."
	case missed > 0:
		r.Outcome, r.Words = Missed, fmt.Sprintf("It went to its end; %s not reached.", count(missed, "target was", "targets were"))
	case unknown > 0:
		r.Outcome, r.Words = Inconclusive, fmt.Sprintf("It went to its end; %s not be measured.", count(unknown, "target could", "targets could"))
	default:
		r.Outcome, r.Words = Passed, "Everything that had to be so was, and every target was reached."
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "one " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Check reports references that lead nowhere: a claim that cannot be traced is
// not made.
func (r *Record) Check(timelines map[string]*incident.Timeline) error {
	known := func(ref Ref) error {
		t := timelines[ref.Timeline]
		if t == nil || ref.N < 1 || ref.N > len(t.Entries) {
			return fmt.Errorf("the report refers to %s, which there is not", ref)
		}
		return nil
	}
	var refs []Ref
	for _, s := range r.Steps {
		for _, l := range s.Lines {
			refs = append(refs, l.From)
		}
	}
	for _, m := range r.Measures {
		if m.Known && len(m.From) == 0 {
			return fmt.Errorf("the report measures %s by no entry", m.Name)
		}
		refs = append(refs, m.From...)
	}
	for _, f := range r.Facts {
		if len(f.From) == 0 {
			return fmt.Errorf("the report says %q by no entry", f.Says)
		}
		refs = append(refs, f.From...)
	}
	for _, g := range r.Gaps {
		refs = append(refs, g.From)
	}
	for _, m := range r.Moments {
		refs = append(refs, m.From)
	}
	for _, ref := range refs {
		if err := known(ref); err != nil {
			return err
		}
	}
	for _, s := range r.Timelines {
		t := timelines[s.ID]
		if t == nil || t.State.Head.Hash != s.Head || t.State.Head.N != s.Entries {
			return fmt.Errorf("the timeline %s is not the one that the report names", s.ID)
		}
		if err := incident.Verify(t.Entries); err != nil {
			return err
		}
	}
	return nil
}
