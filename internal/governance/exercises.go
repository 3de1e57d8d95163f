package governance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
)

// Exercise is what is remembered of an exercise that was handed in.
type Exercise struct {
	ID       string
	Scenario string // of the plan
	Mode     string // desktop, sandbox, live
	Outcome  string // passed, missed, failed, inconclusive, aborted
	At       time.Time
	Open     int // actions that it left and that are not done
}

// Action is something that an exercise or an incident left to be done.
type Action struct {
	Key   string    `json:"key"` // the same as long as it is open
	Of    string    `json:"of"`  // "exercise exc-20261123-k3x9qa", "incident inc-20261123-1"
	Title string    `json:"title"`
	Owner string    `json:"owner"`
	Due   time.Time `json:"due"`
}

// actionAhead is how long before its day an action is due soon: its day was
// chosen by people, and is often near.
const actionAhead = 7 * 24 * time.Hour

// kindAction is the kind of an action in the registers.
const kindAction = "action"

// actions are what exercises and incidents left to be done. What cannot be read
// now is left out, and said in the log: the rest of the registers stands.
func (g *Plans) actions(ctx context.Context) []Action {
	if g.o.Actions == nil {
		return nil
	}
	all, err := g.o.Actions(ctx)
	if err != nil {
		g.o.Log.Warn("not every action that exercises and incidents left is known", "error", err)
	}
	return all
}

// withActions adds actions to the entries of a plan's registers.
func withActions(entries []plan.Entry, actions []Action) []plan.Entry {
	for _, a := range actions {
		entries = append(entries, plan.Entry{Key: kindAction + " " + a.Key, Kind: kindAction, Of: a.Of, Title: a.Title, Owner: a.Owner, Until: a.Due})
	}
	return entries
}

// ExerciseDuties are the duties of a plan that an exercise of a scenario in a
// mode fulfils; with an empty mode, those that ask for one in any.
func ExerciseDuties(p *plan.Plan, scenario, mode string) (out []*plan.Duty) {
	for i := range p.Duties {
		d := &p.Duties[i]
		if d.Kind == "exercise" && (len(d.Of) == 0 || slices.Contains(d.Of, scenario)) && (mode == "" || fulfils(mode, d.Form)) {
			out = append(out, d)
		}
	}
	return out
}

// fulfils says whether an exercise in a mode is of the form that a duty asks
// for. What is done on the real thing is also talked through and tried; what is
// tried on copies shows nobody's decisions, and what is talked through no
// recovery.
func fulfils(mode, form string) bool { return form == "" || mode == form || mode == "live" }

// When is the plan in force, and the hash of the one that was at a time; empty
// where there was none.
func (g *Plans) When(ctx context.Context, at time.Time) (hash string, now *plan.Plan, err error) {
	var all []Revision
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		all, err = selectRevisions(ctx, tx)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	var since time.Time
	for _, r := range all {
		if r.Since != nil && !r.Since.After(at) && r.Since.After(since) {
			hash, since = r.Hash, *r.Since
		}
		if r.State == InForce {
			if now, err = g.parse(ctx, r.ID); err != nil {
				return "", nil, err
			}
		}
	}
	return hash, now, nil
}

// Held notes that an exercise was held, in the duties of the plan in force that
// it fulfils, whatever came of it: what came of it is another control.
func (g *Plans) Held(ctx context.Context, tx pgx.Tx, p principal.Principal, read *plan.Plan, e Exercise) error {
	if read == nil || e.Outcome == "aborted" {
		return nil
	}
	for _, d := range ExerciseDuties(read, e.Scenario, e.Mode) {
		if !d.Every.Known() {
			continue // the registers have no entry for it
		}
		key := "duty " + d.Name
		if err := insertConfirmation(ctx, tx, NewConfirmation{Entry: key, Done: e.At, Note: fmt.Sprintf("%s (%s): %s", e.ID, e.Mode, e.Outcome)}, p.String()); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, uuid.Nil, "plan.confirm", key, map[string]any{"done_at": e.At.UTC(), "exercise": e.ID}); err != nil {
			return err
		}
	}
	return nil
}

// Rehearsal is how one scenario of the plan stands with one duty to exercise it.
type Rehearsal struct {
	Scenario string          `json:"scenario"`
	Title    string          `json:"title"`
	Duty     string          `json:"duty,omitempty"` // empty: no duty asks for it
	Form     string          `json:"form,omitempty"` // desktop, sandbox, live; empty: any
	Every    plan.Span       `json:"every,omitzero"`
	Last     string          `json:"last,omitempty"` // id of the exercise; empty: never
	Mode     string          `json:"mode,omitempty"`
	Outcome  string          `json:"outcome,omitempty"`
	At       time.Time       `json:"at,omitzero"`
	Due      time.Time       `json:"due_at,omitzero"`
	Lapsed   bool            `json:"lapsed,omitempty"` // it went well, and is due again
	Result   evidence.Result `json:"result"`
	Reason   string          `json:"reason"`
}

// Rehearsals say of every scenario of the plan when it was last exercised, by
// what the plan asks for.
func Rehearsals(p *plan.Plan, held []Exercise, now time.Time) (out []Rehearsal) {
	for i := range p.Scenarios {
		s := &p.Scenarios[i]
		title := s.Title
		if title == "" {
			title = s.Name
		}
		duties := ExerciseDuties(p, s.Name, "")
		if len(duties) == 0 {
			r := rehearsal(nil, s.Name, held, now)
			r.Title = title
			out = append(out, r)
		}
		for _, d := range duties {
			r := rehearsal(d, s.Name, held, now)
			r.Title = title
			out = append(out, r)
		}
	}
	return out
}

// rehearsal judges by the newest exercise of the form that came to its end: an
// older one that went better is of a plan and a fleet that are no more.
func rehearsal(d *plan.Duty, scenario string, held []Exercise, now time.Time) Rehearsal {
	r := Rehearsal{Scenario: scenario}
	if d != nil {
		r.Duty, r.Form, r.Every = d.Name, d.Form, d.Every
	}
	form := strings.TrimSpace("exercised " + map[bool]string{true: "in the mode " + r.Form}[r.Form != ""])
	var last *Exercise
	for i := range held {
		if e := &held[i]; e.Scenario == scenario && e.Outcome != "aborted" && fulfils(e.Mode, r.Form) && (last == nil || e.At.After(last.At)) {
			last = e
		}
	}
	if last != nil {
		r.Last, r.Mode, r.Outcome, r.At = last.ID, last.Mode, last.Outcome, last.At
		if r.Every.Known() {
			r.Due = last.At.Add(r.Every.Longest())
		}
	}
	switch {
	case d == nil:
		r.Result, r.Reason = evidence.Fail, "No duty of the plan asks for an exercise of this scenario. Write one of the kind exercise."
	case last == nil:
		r.Result, r.Reason = evidence.Fail, fmt.Sprintf("It was never %s: no such exercise was handed in.", form)
	case last.Outcome == "failed":
		r.Result, r.Reason = evidence.Fail, fmt.Sprintf("When last %s, on %s, it failed (%s).", form, day(last.At), last.ID)
	case last.Outcome == "missed" && (last.Mode != "desktop" || last.Open > 0):
		r.Result, r.Reason = evidence.Fail, fmt.Sprintf("When last %s, on %s, something was missing (%s); of what it left to do, %d are open.", form, day(last.At), last.ID, last.Open)
	case last.Outcome == "inconclusive":
		r.Result, r.Reason = evidence.Inconclusive, fmt.Sprintf("When last %s, on %s, not every target could be measured (%s).", form, day(last.At), last.ID)
	case !r.Every.Known():
		r.Result, r.Reason = evidence.Inconclusive, fmt.Sprintf("It was last %s on %s, and duty %s does not say as a number how often.", form, day(last.At), d.Name)
	case !now.Before(r.Due):
		r.Lapsed = true
		r.Result, r.Reason = evidence.Inconclusive, fmt.Sprintf("It was last %s on %s, and was due on %s.", form, day(last.At), day(r.Due))
	default:
		r.Result, r.Reason = evidence.Pass, fmt.Sprintf("It was last %s on %s (%s), and is due on %s.", form, day(last.At), last.ID, day(r.Due))
	}
	return r
}

// rehearsedAll wants every scenario exercised as the plan asks.
func rehearsedAll(f *facts, v *verdict) {
	if !f.exercisesKnown {
		v.unknown("exercises", "Which exercises were handed in is not known.")
		return
	}
	for _, r := range Rehearsals(f.Plan, f.exercises, f.now) {
		what := "scenario " + r.Scenario
		says := "never"
		if r.Last != "" {
			says = fmt.Sprintf("%s in the mode %s: %s", day(r.At), r.Mode, r.Outcome)
		}
		v.covered = append(v.covered, fmt.Sprintf("%s, last exercised %s", what, says))
		switch {
		case r.Result == evidence.Fail:
			v.fails(what, "%s", r.Reason)
		case r.Result == evidence.Pass || r.Lapsed:
			v.lapses(f.now, r.Due, what, "%s", r.Reason)
		default:
			v.unknown(what, "%s", r.Reason)
		}
	}
	if len(f.Scenarios) == 0 {
		v.unknown("scenarios", "The plan has no scenario.")
	}
	v.says = "Every scenario was exercised within the period of the plan, and nothing was missing."
	v.notCovered = []string{"whether an exercise took place: its timeline cannot be changed unseen, and whoever hands it in could have written all of it", "scenarios that the plan does not have"}
}

// openActions wants that nothing that exercises and incidents left is past its
// day.
func openActions(f *facts, v *verdict) {
	for _, a := range f.actions {
		v.lapses(f.now, a.Due, a.Of, "What it left to do (%s) was due on %s, and is not done.", a.Key, day(a.Due))
	}
	v.covered = append(v.covered, "the actions that exercises and incidents have left")
}
