package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Word is what somebody says of a step.
type Word struct {
	Step     string            `json:"step"`
	Words    string            `json:"words"`
	Evidence []string          `json:"evidence,omitempty"`
	Facts    map[string]string `json:"facts,omitempty"`
	Options  []string          `json:"options,omitempty"` // what else there was, of a decision
}

// refuse is what a desk answers to what may not be said.
func refuse(code, detail, mend string) error {
	return problem.New(problem.Conflict, code, detail).WithMend(mend)
}

// Approve gives somebody's approval to a step that waits for it; with no, it
// rejects it. Who is not one of those that the plan names is refused, and that
// stands in the timeline.
func (d *Desk) Approve(ctx context.Context, p principal.Principal, id string, w Word, no bool) (Shown, error) {
	act, what := ActApprove, SaidApprove
	if no {
		act, what = ActReject, SaidReject
	}
	return d.say(ctx, p, "recovery.approve", id, w, act, what, func(r *Run, of *plan.Plan, i int, person string) error {
		s := &r.Steps[i]
		rp := of.RecoveryPlan(r.Name)
		need := approvalOf(r, rp, i, &World{Plan: of})
		switch {
		case need == nil:
			return refuse("recovery-approval-idle", s.Name+" needs no approval.", "`foundry recovery status` says what it waits for.")
		case s.State.Over() || s.State == Running || s.State == NeedsPerson && s.Need != nil && s.Need.What == NeedSay:
			return refuse("recovery-approval-late", s.Name+" has begun.", "`foundry recovery abandon` gives the run up.")
		case no && w.Words == "":
			return problem.New(problem.Invalid, "recovery-words", "Why not?").WithField("words").WithMend("Say it in a sentence.")
		case len(need.Who) == 0:
			return nil
		case p.Kind != principal.Person:
			return problem.New(problem.Denied, "recovery-approver-unknown", "The plan names who approves this, and this is nobody who signed in.").WithMend("Sign in as yourself with `foundry login`.")
		case p.SecondFactor.IsZero():
			return problem.New(problem.Denied, "recovery-second-factor", "An approval needs your second factor.").WithMend("Sign in again with it.")
		case !slices.Contains(need.Who, person):
			return problem.New(problem.Denied, "recovery-approver", fmt.Sprintf("The plan names %s to approve this.", strings.Join(need.Who, ", "))).WithMend("One of them has to sign in with the account that the plan gives them.")
		case slices.Contains(approvers(r, i, need.Who), p.String()) && !no:
			return refuse("recovery-approved-twice", "You have said so already: approvals come from different people.", "Let somebody else look at it.")
		case p.String() == r.Starter && need.Count == 1 && !no:
			return problem.New(problem.Denied, "recovery-approver-asked", "Who asked for it cannot be the only one to approve it.").WithMend("Another of those whom the plan names has to look at it.")
		}
		return nil
	})
}

// Decide records the decision that a step waits for; it stands in the incident
// as one.
func (d *Desk) Decide(ctx context.Context, p principal.Principal, id string, w Word) (Shown, error) {
	return d.say(ctx, p, "recovery.act", id, w, ActDecide, SaidDecided, func(r *Run, _ *plan.Plan, i int, _ string) error {
		s := &r.Steps[i]
		if s.State != NeedsPerson || s.Need == nil || s.Need.What != NeedDecide {
			return refuse("recovery-decision-idle", s.Name+" waits for no decision.", "`foundry recovery status` says what it waits for.")
		}
		return worded(w)
	})
}

func worded(w Word) error {
	if strings.TrimSpace(w.Words) == "" {
		return problem.New(problem.Invalid, "recovery-words", "It says nothing.").WithField("words").WithMend("Say what was done or seen, and why, in a sentence or two.")
	}
	return nil
}

// Say says that a step that people do is done, with what shows it, or that it
// has failed.
func (d *Desk) Say(ctx context.Context, p principal.Principal, id string, w Word, failed bool) (Shown, error) {
	what := SaidDone
	if failed {
		what = SaidFailed
	}
	return d.say(ctx, p, "recovery.act", id, w, ActSay, what, func(r *Run, of *plan.Plan, i int, _ string) error {
		s := &r.Steps[i]
		asked := s.State == NeedsPerson && s.Need != nil && s.Need.What == NeedSay
		open := s.State == Failed || s.State == Indeterminate
		switch {
		case !asked && !open:
			return refuse("recovery-say-idle", s.Name+" waits for nobody's word.", "`foundry recovery status` says what it waits for.")
		case failed && s.State == Failed:
			return refuse("recovery-say-idle", s.Name+" has failed already.", "`foundry recovery retry` tries it again.")
		case failed:
			return worded(w)
		case open && !maySay(r, of.RecoveryPlan(r.Name), i):
			return refuse("recovery-say-gate", "This is a gate: that it holds cannot be said by word of mouth where it was seen not to.", "`foundry recovery retry` looks again.")
		case len(w.Evidence) == 0:
			return problem.New(problem.Invalid, "recovery-evidence", "Nothing shows it.").WithField("evidence").WithMend("Name what does: an entry of the incident, a ticket, a file's hash, what a command printed.")
		case s.Kind == "fence" && !fenceSaid(&Saying{Evidence: w.Evidence, Facts: w.Facts}):
			return problem.New(problem.Invalid, "recovery-fence-unread", "A fence is one when it was read back.").WithField("facts").
				WithMend("Say --fact fenced-by=power-off --fact state=off, as the supplier showed it; or --fact fenced-by=stopped, as the machine itself has answered.")
		}
		return worded(w)
	})
}

// Retry tries a step again that failed, or of which nobody knows.
func (d *Desk) Retry(ctx context.Context, p principal.Principal, id string, w Word) (Shown, error) {
	return d.say(ctx, p, "recovery.act", id, w, ActRetry, SaidRetry, func(r *Run, _ *plan.Plan, i int, _ string) error {
		if s := &r.Steps[i]; s.State != Failed && s.State != Indeterminate {
			return refuse("recovery-retry-idle", s.Name+" has not failed.", "`foundry recovery status` says how it stands.")
		}
		return nil
	})
}

// Skip goes on without a step; a gate is not skipped.
func (d *Desk) Skip(ctx context.Context, p principal.Principal, id string, w Word) (Shown, error) {
	return d.say(ctx, p, "recovery.act", id, w, ActSkip, SaidSkip, func(r *Run, of *plan.Plan, i int, _ string) error {
		s := &r.Steps[i]
		switch {
		case gate(&of.RecoveryPlan(r.Name).Steps[i]):
			return problem.New(problem.Denied, "recovery-skip-gate", s.Name+" is a gate, and gates are not skipped.").WithMend("Do what it waits for, or abandon the run.")
		case s.State.Over() || s.State == Running:
			return refuse("recovery-skip-late", s.Name+" is "+string(s.State)+".", "`foundry recovery status` says how it stands.")
		}
		return worded(w)
	})
}

// Abandon gives a run up: nothing new begins, and what runs is told to end.
func (d *Desk) Abandon(ctx context.Context, p principal.Principal, id, words string) (Shown, error) {
	if err := d.may(ctx, p, "recovery.abandon", id); err != nil {
		return Shown{}, err
	}
	now, err := d.get(ctx, id)
	if err != nil {
		return Shown{}, err
	}
	switch {
	case !now.Ended.IsZero():
		return Shown{}, refuse("recovery-over", "The run has ended.", "Start another.")
	case now.Abandon != nil:
		return now, nil
	}
	if err := worded(Word{Words: words}); err != nil {
		return Shown{}, err
	}
	n, err := d.record(ctx, p, now.Incident, ActGiveUp, now.ID, "", "asked", words, map[string]string{"run": now.ID})
	if err != nil && !errors.Is(err, incident.ErrOver) { // in a closed incident it can be given up nevertheless
		return Shown{}, err
	}
	return d.change(ctx, now.ID, func(r *Run) error {
		if r.Abandon == nil && r.Ended.IsZero() {
			r.Abandon = &Saying{What: SaidAbandon, By: p.String(), At: d.Clock().UTC(), Entry: n, Words: words}
		}
		return nil
	})
}

// say checks what somebody says, writes it into the timeline, and then into the
// run, where whoever leads answers it.
func (d *Desk) say(ctx context.Context, p principal.Principal, may policy.Action, id string, w Word, act, what string, check func(*Run, *plan.Plan, int, string) error) (Shown, error) {
	if err := d.may(ctx, p, may, id); err != nil {
		return Shown{}, err
	}
	now, err := d.get(ctx, id)
	if err != nil {
		return Shown{}, err
	}
	i := slices.IndexFunc(now.Steps, func(s StepState) bool { return s.Name == w.Step })
	switch {
	case i < 0:
		return Shown{}, problem.New(problem.NotFound, "recovery-step-unknown", fmt.Sprintf("The run has no step %.60q.", w.Step)).WithField("step").WithMend("`foundry recovery status` lists them.")
	case !now.Ended.IsZero() || now.Abandon != nil:
		return Shown{}, refuse("recovery-over", "The run has ended, or was given up.", "Start another.")
	case now.Stale:
		return Shown{}, member.ErrNoMajority
	}
	of, err := planOf(ctx, d.Store, now.ID)
	if err != nil {
		return Shown{}, err
	}
	person := ""
	if p.Kind == principal.Person && d.Who != nil {
		if person, err = d.Who(ctx, p, of); err != nil {
			return Shown{}, err
		}
	}
	step := now.Name + "/" + w.Step
	if err := check(&now.Run, of, i, person); err != nil {
		if problem.From(err).Kind == problem.Denied {
			_, _ = d.record(ctx, p, now.Incident, act, now.ID, step, "refused", problem.From(err).Detail, map[string]string{"run": now.ID, "code": problem.From(err).Code})
		}
		return Shown{}, err
	}
	facts := map[string]string{"run": now.ID, "said": what}
	maps.Copy(facts, w.Facts)
	if len(w.Evidence) > 0 {
		facts["evidence"] = strings.Join(w.Evidence, " ")
	}
	n, err := d.record(ctx, p, now.Incident, act, now.ID, step, what, w.Words, facts)
	if err != nil {
		return Shown{}, err
	}
	if what == SaidDecided {
		e, _, err := d.Book.Append(ctx, p, now.Incident, &incident.Decision{About: "recovery", Target: step, Words: w.Words, Options: w.Options})
		if err != nil {
			return Shown{}, err
		}
		n = e.N
	}
	return d.change(ctx, now.ID, func(r *Run) error {
		s := &r.Steps[i]
		if err := check(r, of, i, person); err != nil { // it may stand otherwise by now
			return err
		}
		s.Said = append(s.Said, Saying{What: what, By: p.String(), Person: person, At: d.Clock().UTC(), Attempt: s.Attempt, Round: s.Round, Entry: n, Words: w.Words, Evidence: w.Evidence, Facts: w.Facts})
		return nil
	})
}

// change changes a run beside whoever leads it.
func (d *Desk) change(ctx context.Context, id string, f func(*Run) error) (Shown, error) {
	for {
		r, revision, err := read(ctx, d.Store, id)
		if err != nil {
			return Shown{}, err
		}
		if err := f(&r); err != nil {
			return Shown{}, err
		}
		_, err = d.Store.Put(ctx, pathRun(id), r, member.IfRevision(pathRun(id), revision))
		if err == nil {
			return Shown{Run: r, Waits: r.Waits()}, nil
		}
		if !errors.Is(err, member.ErrChanged) || ctx.Err() != nil {
			return Shown{}, err
		}
	}
}
