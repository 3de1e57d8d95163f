package console

import (
	"context"
	"time"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) recoveryRoutes() []Route {
	of := func(do bounded) func(*visit) error { return within(absent(c.Recoveries, recovery.ErrOff), do) }
	return []Route{
		{Pattern: "GET " + toRecoveries + "/{id}", Action: "recovery.read", do: of(sheet(c.showRun).empty)},
		{Pattern: "POST " + toRecoveries + "/{id}/approve", Action: "recovery.approve", do: of(c.sayOfStep(c.approveStep))},
		{Pattern: "POST " + toRecoveries + "/{id}/decide", Action: "recovery.act", do: of(c.sayOfStep(c.decideStep))},
		{Pattern: "POST " + toRecoveries + "/{id}/say", Action: "recovery.act", do: of(c.sayOfStep(c.sayStep))},
		{Pattern: "POST " + toRecoveries + "/{id}/retry", Action: "recovery.act", do: of(c.sayOfStep(c.retryStep))},
	}
}

type runData struct {
	v    *visit
	now  time.Time
	run  recovery.Shown
	form form
	may  func(policy.Action) bool // what the visitor is offered
}

func (c *Console) showRun(ctx context.Context, v *visit, f form, status int) error {
	r, err := c.Recoveries.Get(ctx, v.who(), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := runData{v: v, now: c.Clock(), run: r, form: f, may: v.mayHere}
	notice := ""
	if v.r.URL.Query().Get("done") != "" {
		notice = "Your word stands in the timeline."
	}
	return v.show(page{Title: titleOr(r.Title, r.Name), Path: toCommand, Status: status, Live: true, Notice: notice, Crumbs: []crumb{{"Command", toCommand}}}, runBody(d))
}

// asking are the steps that somebody can say something of.
func (d *runData) asking() (out []recovery.StepState) {
	if !d.run.Ended.IsZero() {
		return nil
	}
	for _, s := range d.run.Steps {
		if s.Need != nil && !s.State.Over() && (s.Need.What != recovery.NeedRecord) {
			out = append(out, s)
		}
	}
	return out
}

// wordsField and evidenceField are the fields of a step's form: each step has
// one of its own.
func wordsField(step string) string    { return "words-" + slug(step) }
func evidenceField(step string) string { return "evidence-" + slug(step) }
func fencedField(step string) string   { return "fenced-" + slug(step) }

// fencedBy is how somebody knows that a node writes no more. By a guess it is
// not fenced.
var fencedBy = []struct {
	by, words string
	facts     map[string]string
}{
	{recovery.FencedByPower, "The supplier shows it as switched off", map[string]string{"fenced-by": recovery.FencedByPower, "state": "off"}},
	{recovery.FencedByItself, "The machine itself has answered that it has stopped", map[string]string{"fenced-by": recovery.FencedByItself}},
}

// fenceFacts are the facts of what was chosen; nil: nothing was.
func fenceFacts(by string) map[string]string {
	for _, one := range fencedBy {
		if one.by == by {
			return one.facts
		}
	}
	return nil
}

// said is what a form says of a step.
type said struct {
	recovery.Word
	Answer string // of two buttons, the one that was pressed
}

// sayOfStep reads the form of a step and gives it to the desk.
func (c *Console) sayOfStep(act func(context.Context, *visit, string, said) error) bounded {
	return func(ctx context.Context, v *visit) error {
		f, err := readForm(v.r, "step")
		if err != nil {
			return err
		}
		words, shows, fenced := wordsField(f.value("step")), evidenceField(f.value("step")), fencedField(f.value("step"))
		return sheet(c.showRun).sent(words, []string{"step", "answer", words, shows, fenced}, func(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
			id, w := v.r.PathValue("id"), said{recovery.Word{Step: f.value("step"), Words: f.value(words)}, f.value("answer")}
			w.Evidence, w.Facts = nonEmpty(f.value(shows)), fenceFacts(f.value(fenced))
			if err := act(ctx, v, id, w); err != nil {
				e := *problem.From(err) // a copy: it may be shared
				e.Field = map[string]string{"evidence": shows, "facts": fenced}[e.Field]
				return "", &e
			}
			return with(string(runLink(id)), "done", "said"), nil
		})(ctx, v)
	}
}

func (c *Console) approveStep(ctx context.Context, v *visit, id string, w said) error {
	_, err := c.Recoveries.Approve(ctx, v.who(), id, w.Word, w.Answer != "approve")
	return err
}

func (c *Console) decideStep(ctx context.Context, v *visit, id string, w said) error {
	_, err := c.Recoveries.Decide(ctx, v.who(), id, w.Word)
	return err
}

func (c *Console) sayStep(ctx context.Context, v *visit, id string, w said) error {
	_, err := c.Recoveries.Say(ctx, v.who(), id, w.Word, w.Answer != "done")
	return err
}

func (c *Console) retryStep(ctx context.Context, v *visit, id string, w said) error {
	_, err := c.Recoveries.Retry(ctx, v.who(), id, w.Word)
	return err
}

func runAct(id, act string) templ.SafeURL { return runLink(id) + templ.SafeURL("/"+act) }

// mayAnswer says whether the visitor may give what a step waits for.
func (d *runData) mayAnswer(s *recovery.StepState) bool {
	if s.Need.What == recovery.NeedApprove {
		return d.may("recovery.approve")
	}
	return d.may("recovery.act")
}

// recoveryState is a run in shape, word and colour.
func recoveryState(r *recovery.Run) state {
	switch {
	case r.Outcome == "done":
		return state{ok, "Done"}
	case !r.Ended.IsZero():
		return state{idle, capital(titleOr(r.Outcome, "ended"))}
	case r.Trouble != "":
		return state{bad, "Stands still"}
	}
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Need != nil && !s.State.Over() {
			return state{warn, "Needs somebody"}
		}
	}
	return state{info, "Running"}
}

func tookWords(s *recovery.StepState) string {
	switch {
	case s.Began.IsZero():
		return ""
	case s.Ended.IsZero():
		return "began at " + clock(s.Began) + " UTC"
	}
	return "from " + clock(s.Began) + " to " + clock(s.Ended) + " UTC, " + age(s.Ended.Sub(s.Began))
}

func reignWords(r *recovery.Run) string {
	var out []string
	for _, one := range r.Reign {
		out = append(out, one.Node)
	}
	return commaList(out, "nobody yet")
}

func attemptWords(s *recovery.StepState) string {
	if s.Attempt < 2 {
		return ""
	}
	return "attempt " + number(int64(s.Attempt))
}
