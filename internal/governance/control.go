package governance

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
)

// Here is what this node knows of itself, besides the plan.
type Here struct {
	Country  string // of node.country
	Assumed  bool   // the country was not stated
	Supplier string // of node.supplier
	Targets  []HereTarget
}

// HereTarget is a target of backups that this node is configured with.
type HereTarget struct{ Name, Supplier, Country string }

// facts are what the checks of controls see.
type facts struct {
	*plan.Plan
	id       string // of the control
	revision Revision
	now      time.Time
	due      map[string]Due // by key
	reviews  []Review
	read     map[string]bool   // principals who have acknowledged this plan
	accounts map[string]string // account → principal, of the plan's people
	here     *Here             // nil: not known
	access   *accessReviews    // nil: not known
	findings map[string][]lint.Finding

	exercises      []Exercise
	exercisesKnown bool
	actions        []Action // open
}

// accessReviews is what is known of reviews of access to the platform.
type accessReviews struct {
	last  *time.Time // when the last was completed; nil: never
	began time.Time  // since when there is something to review
}

// check looks at the plan in force for one control.
type check func(f *facts, v *verdict)

// verdict is what a check has found.
type verdict struct {
	says       string   // when nothing is wrong
	covered    []string // what was looked at
	notCovered []string
	until      time.Time // when the first of it lapses; zero: never
	out        []evidence.Finding
}

// fails says what breaks the promise.
func (v *verdict) fails(subject, says string, args ...any) {
	v.out = append(v.out, evidence.Finding{Subject: subject, Result: evidence.Fail, Reason: fmt.Sprintf(says, args...)})
}

// unknown says what cannot be seen.
func (v *verdict) unknown(subject, says string, args ...any) {
	v.out = append(v.out, evidence.Finding{Subject: subject, Result: evidence.Inconclusive, Reason: fmt.Sprintf(says, args...)})
}

// lapses notes until when something holds. What is past makes the control
// overdue.
func (v *verdict) lapses(now, until time.Time, subject, says string, args ...any) {
	if now.Before(until) {
		if v.until.IsZero() || until.Before(v.until) {
			v.until = until
		}
		return
	}
	v.out = append(v.out, evidence.Finding{Subject: subject, Result: evidence.Inconclusive, Reason: fmt.Sprintf(says, args...), Until: until})
}

// comesRound judges an entry of the registers that has to come round: within
// its period, and within most where that is shorter.
func (v *verdict) comesRound(f *facts, key string, most time.Duration) {
	d, ok := f.due[key]
	if !ok {
		v.unknown(key, "The registers have no entry %q: the plan gives it neither a date nor a period.", key)
		return
	}
	last := d.Last
	if d.Done.After(last) {
		last = d.Done
	}
	switch until := d.Due; {
	case last.IsZero():
		v.unknown(d.Of, "%s: nothing says when it was last done. `foundry plan confirm %q` notes it.", d.Title, key)
	default:
		if bound := last.Add(most); until.IsZero() || bound.Before(until) {
			until = bound
		}
		v.lapses(f.now, until, d.Of, "%s was last done on %s, and was due on %s.", d.Title, day(last), day(until))
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// breaks fails for every finding of the linter's rules, accepted ones too: to
// accept a weakness is not to be without it.
func (v *verdict) breaks(f *facts, rules ...string) {
	for _, rule := range rules {
		for _, x := range f.findings[rule] {
			v.fails(x.Subject, "%s [%s]", x.Message, rule)
		}
	}
}

// promised compares the plan with the commitments whose evidence names this
// control.
func (v *verdict) promised(f *facts) {
	for i := range f.Commitments {
		c := &f.Commitments[i]
		subject, ok := plan.SubjectNamed(c.Subject)
		if !ok || !slices.Contains(c.Evidence, f.id) {
			continue
		}
		of := c.Of
		if len(of) == 0 {
			of = []string{""}
		}
		for _, name := range of {
			for _, said := range f.Says(c.Subject, name) {
				if kept, ok := subject.Keeps(c, said); ok && !kept {
					v.fails("commitment "+c.Name, "It promises %s (%s), and the plan says %s%s.", c.Promise(), subject.Says, said.Text, ofWhom(said.Of))
				}
			}
		}
		v.covered = append(v.covered, "commitment "+c.Name)
	}
}

func ofWhom(name string) string {
	if name == "" {
		return ""
	}
	return " of " + name
}

// Control is what a control of the evidence asks of the plan in force. Nil is
// given for one that asks nothing of it.
func (g *Plans) Control(id string) evidence.Collect {
	look := checks[id]
	if look == nil {
		return nil
	}
	return func(ctx context.Context, progress func(string)) ([]evidence.Finding, error) {
		progress("reading the plan in force")
		r, read, err := g.stored(ctx)
		if isNone(err) {
			return noPlan(), nil
		}
		if err != nil {
			return nil, err
		}
		f, err := g.factsOf(ctx, id, r, read)
		if err != nil {
			return nil, err
		}
		return f.judge(look), nil
	}
}

// Controls lists the controls that ask the plan in force.
func Controls() []string { return slices.Sorted(maps.Keys(checks)) }

// noPlan is what every control says that asks a plan which is not there.
func noPlan() []evidence.Finding {
	return []evidence.Finding{{Subject: "continuity plan", Result: evidence.Inconclusive, Reason: "There is no continuity plan in force. Hand one in with `foundry plan submit`, and have it approved.", NotCovered: []string{"everything that a plan would say"}}}
}

func (g *Plans) factsOf(ctx context.Context, id string, r Revision, read *plan.Plan) (*facts, error) {
	f := &facts{Plan: read, id: id, revision: r, now: g.o.Clock(), read: map[string]bool{}}
	done, err := g.confirmed(ctx)
	if err != nil {
		return nil, err
	}
	var acknowledged []Acknowledgement
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if acknowledged, err = selectAcknowledgements(ctx, tx, r.Hash); err != nil {
			return err
		}
		f.reviews, err = selectReviews(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading who has read the plan: %w", err)
	}
	for _, a := range acknowledged {
		f.read[a.By] = true
	}
	if g.o.Here != nil {
		here := g.o.Here()
		f.here = &here
	}
	if g.o.Reviewed != nil && id == "O-14" { // the whole register is read for it
		f.access = &accessReviews{}
		if f.access.last, f.access.began, err = g.o.Reviewed(ctx); err != nil {
			return nil, err
		}
	}
	if g.o.Exercises != nil && id == "O-76.exercised" {
		if f.exercises, err = g.o.Exercises(ctx); err != nil {
			return nil, err
		}
		f.exercisesKnown = true
	}
	f.actions = g.actions(ctx)
	var accounts []string
	for i := range read.People {
		if a := read.People[i].Account; a != "" {
			accounts = append(accounts, a)
		}
	}
	if g.o.Accounts != nil && len(accounts) > 0 {
		if f.accounts, err = g.o.Accounts(ctx, accounts); err != nil {
			return nil, err
		}
	}
	f.complete(done, g.measured(ctx, read))
	return f, nil
}

// complete computes what follows from the plan.
func (f *facts) complete(done map[string]confirmation, m plan.Measured) {
	f.due = map[string]Due{}
	for _, d := range registerOf(f.Plan, done, f.actions, f.now) {
		f.due[d.Key] = d
	}
	f.findings = map[string][]lint.Finding{}
	report := lint.Check(f.Plan, lint.Options{Now: f.now, Measured: m})
	for _, list := range [][]lint.Finding{report.Findings, report.Suppressed} {
		for _, x := range list {
			f.findings[x.Rule] = append(f.findings[x.Rule], x)
		}
	}
}

// judge runs a check, and binds what it finds to the plan that it looked at.
func (f *facts) judge(look check) []evidence.Finding {
	v := &verdict{}
	look(f, v)
	v.promised(f)
	if len(v.out) == 0 {
		v.out = append(v.out, evidence.Finding{Subject: "continuity plan", Result: evidence.Pass, Reason: v.says, NotCovered: v.notCovered, Until: v.until})
	}
	if until, why := f.wordUntil(); !f.now.Before(until) {
		v.out = append(v.out, evidence.Finding{Subject: "review of the plan", Result: evidence.Inconclusive, Reason: why, Until: until})
	} else if last := &v.out[len(v.out)-1]; last.Result == evidence.Pass && (last.Until.IsZero() || until.Before(last.Until)) {
		last.Until = until
	}
	raw, _ := json.Marshal(map[string]any{"plan": f.revision.Hash, "revision": f.revision.ID, "in_force_since": f.revision.Since}) // strings and a time
	for i := range v.out {
		x := &v.out[i]
		x.Raw, x.Covered = raw, append([]string{"continuity plan " + f.revision.Hash}, v.covered...)
	}
	return v.out
}

// wordUntil is until when the word of the plan counts: until it is due to be
// reviewed, or for a year where it does not say.
func (f *facts) wordUntil() (until time.Time, why string) {
	for _, d := range f.Duties {
		if x, ok := f.due["duty "+d.Name]; ok && d.Kind == "plan-review" && !x.Due.IsZero() && (until.IsZero() || x.Due.Before(until)) {
			until = x.Due
			why = fmt.Sprintf("The plan was due to be reviewed on %s; until then its word counted. `foundry plan confirm %q` notes that it was.", day(until), x.Key)
		}
	}
	if until.IsZero() && f.revision.Since != nil {
		until = f.revision.Since.Add(planWord)
		why = fmt.Sprintf("The plan is in force since %s and gives no period for its review; its word counts for a year.", day(*f.revision.Since))
	}
	return until, why
}

// planWord is how long the word of a plan counts that gives no period for its
// review.
const planWord = 365 * 24 * time.Hour

// quoted lists names in a sentence, the first few of them.
func quoted(names []string) string { return strings.TrimSpace(join(names)) }
