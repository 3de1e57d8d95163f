package console

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	toPlan     = "/console/plan"
	toPlanNew  = "/console/plan/new"
	toPlanRead = "/console/plan/read"
)

func (c *Console) planRoutes() []Route {
	with := func(do bounded) func(*visit) error { return within(absent(c.Plans, errNoPlans), do) }
	submit, reject, confirm, review := sheet(c.showPlanForm), sheet(c.showRejectPlan), sheet(c.showConfirmEntry), sheet(c.showPlanReview)
	return []Route{
		{Pattern: "GET " + toPlan, Action: "plan.read", do: with(c.plan)},
		{Pattern: "GET " + toPlanNew, Action: "plan.submit", do: with(submit.empty)},
		{Pattern: "POST " + toPlanNew, Action: "plan.submit", do: with(submit.sent("text", []string{"text", "note"}, c.submitPlan))},
		{Pattern: "POST " + toPlanRead, Action: "plan.acknowledge", do: with(c.readPlan)},
		{Pattern: "GET " + toPlan + "/revisions/{revision}", Action: "plan.read", do: with(c.planRevision)},
		{Pattern: "POST " + toPlan + "/revisions/{revision}/approve", Action: "plan.decide", do: with(c.approvePlan)},
		{Pattern: "GET " + toPlan + "/revisions/{revision}/reject", Action: "plan.decide", do: with(reject.empty)},
		{Pattern: "POST " + toPlan + "/revisions/{revision}/reject", Action: "plan.decide", do: with(reject.sent("reason", []string{"reason"}, c.rejectPlan))},
		{Pattern: "GET " + toPlan + "/register/{entry}", Action: "plan.confirm", do: with(confirm.empty)},
		{Pattern: "POST " + toPlan + "/register/{entry}", Action: "plan.confirm", do: with(confirm.sent("note", []string{"done", "note"}, c.confirmEntry))},
		{Pattern: "GET " + toPlan + "/reviews/{review}", Action: "plan.review", do: with(review.empty)},
		{Pattern: "POST " + toPlan + "/reviews/{review}", Action: "plan.review", do: with(review.sent("finding", []string{"finding"}, c.closePlanReview))},
	}
}

var (
	errNoPlans     = problem.New(problem.Unavailable, "plan-away", "The continuity plan is not kept by this node.").WithMend("Ask the node that runs the database.")
	errNoRevision  = problem.New(problem.NotFound, "plan-unknown", "There is no such revision of the plan.").WithMend("The page of the plan lists them.")
	errNoReviewDue = problem.New(problem.NotFound, "plan-review-unknown", "There is no such review, or it is closed.").WithMend("The page of the plan lists those that are due.")
	errNoEntry     = problem.New(problem.NotFound, "plan-entry", "The registers have no such entry.").WithMend("The page of the plan lists them.")
	planCrumbs     = []crumb{{"Continuity plan", toPlan}}
)

type planData struct {
	v        *visit
	s        governance.Standing
	register []governance.Due
	loss     *plan.Outcome // nil: nothing is lost
	lost     string
	graph    templ.Component
	read     bool // by whoever looks
}

// plan is the plan in force, or what falls when something is lost: the query
// names it.
func (c *Console) plan(ctx context.Context, v *visit) error {
	s, err := c.Plans.Standing(ctx, v.who())
	if err != nil {
		return err
	}
	d := planData{v: v, s: s}
	title := page{Title: "Continuity plan", Path: toPlan}
	if s.Plan == nil {
		return v.show(title, planBody(d))
	}
	var lost []string
	if d.lost = v.r.URL.Query().Get("lose"); d.lost != "" {
		lost = []string{d.lost}
	}
	o, _, read, err := c.Plans.Whatif(ctx, v.who(), lost...)
	if err != nil {
		return err
	}
	if d.lost != "" {
		d.loss = &o
		title.Title, title.Crumbs = "Without "+o.Lost[0].String(), planCrumbs
	}
	// The drawing escapes every word of the plan itself.
	d.graph = templ.Raw(string(read.Graph().SVG(plan.Drawing{Outcome: d.loss, Link: whatifAddress})))
	if d.register, err = c.Plans.Register(ctx, v.who()); err != nil {
		return err
	}
	shown, err := c.Plans.Show(ctx, v.who(), s.Plan.ID)
	if err != nil {
		return err
	}
	for _, a := range shown.Read {
		d.read = d.read || a.By == v.who().String()
	}
	return v.show(title, planBody(d))
}

func whatifAddress(t plan.Thing) string {
	if t.Kind == plan.KindBackup {
		return ""
	}
	return string(whatifLink(t.String()))
}

func whatifLink(thing string) templ.SafeURL { return with(toPlan, "lose", thing) }

func revisionLink(r *governance.Revision) templ.SafeURL {
	return templ.SafeURL(toPlan + "/revisions/" + r.ID.String())
}

func planEntryLink(key string) templ.SafeURL {
	return templ.SafeURL(toPlan + "/register/" + url.PathEscape(key))
}

func planReviewLink(r governance.Review) templ.SafeURL {
	return templ.SafeURL(toPlan + "/reviews/" + r.ID.String())
}

type planFormData struct {
	v    *visit
	form form
}

func (c *Console) showPlanForm(ctx context.Context, v *visit, f form, status int) error {
	if f.values == nil {
		f.values = map[string]string{}
		if r, err := c.Plans.Show(ctx, v.who(), [16]byte{}); err == nil {
			f.values["text"] = r.Text
		} else if problem.From(err).Kind != problem.NotFound {
			return err
		}
	}
	return v.show(page{Title: "Hand in a plan", Path: toPlan, Status: status, Crumbs: planCrumbs}, planFormBody(planFormData{v, f}))
}

func (c *Console) submitPlan(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	in := governance.NewRevision{Text: strings.ReplaceAll(f.value("text"), "\r\n", "\n") + "\n", Note: f.value("note"), Books: map[string]string{}}
	if r, err := c.Plans.Show(ctx, v.who(), [16]byte{}); err == nil {
		in.Books = r.Books // runbooks are handed in by the command line; a form keeps those that there are
	}
	r, err := c.Plans.Submit(ctx, v.who(), in)
	if err != nil {
		if e := problem.From(err); e.Field != "note" {
			return "", problem.New(e.Kind, e.Code, strings.TrimPrefix(e.Field+": ", ": ")+e.Detail).WithField("text").WithMend(e.Mend)
		}
		return "", err
	}
	return revisionLink(&r), nil
}

func (c *Console) readPlan(ctx context.Context, v *visit) error {
	f, err := readForm(v.r, "hash")
	if err != nil {
		return err
	}
	if _, err := c.Plans.Acknowledge(ctx, v.who(), f.value("hash")); err != nil {
		return err
	}
	return v.seeOther(toPlan)
}

type revisionData struct {
	v    *visit
	r    governance.Revision
	mine bool // whoever looks has decided already
}

func (c *Console) planRevision(ctx context.Context, v *visit) error {
	id, err := v.pathID("revision", errNoRevision)
	if err != nil {
		return err
	}
	r, err := c.Plans.Show(ctx, v.who(), id)
	if err != nil {
		return err
	}
	d := revisionData{v: v, r: r}
	for _, x := range r.Decisions {
		d.mine = d.mine || x.By == v.who().String()
	}
	return v.show(page{Title: "Revision " + r.Hash[:12], Path: toPlan, Crumbs: planCrumbs}, revisionBody(d))
}

func (c *Console) approvePlan(ctx context.Context, v *visit) error {
	id, err := v.pathID("revision", errNoRevision)
	if err != nil {
		return err
	}
	r, err := c.Plans.Decide(ctx, v.who(), id, true, "")
	if err != nil {
		return err
	}
	return v.seeOther(revisionLink(&r))
}

func (c *Console) showRejectPlan(ctx context.Context, v *visit, f form, status int) error {
	id, err := v.pathID("revision", errNoRevision)
	if err != nil {
		return err
	}
	r, err := c.Plans.Show(ctx, v.who(), id)
	if err != nil {
		return err
	}
	return v.show(page{Title: "Reject a revision", Path: toPlan, Status: status, Crumbs: planCrumbs}, rejectPlanBody(f, revisionLink(&r)))
}

func (c *Console) rejectPlan(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	id, err := v.pathID("revision", errNoRevision)
	if err != nil {
		return "", err
	}
	r, err := c.Plans.Decide(ctx, v.who(), id, false, f.value("reason"))
	return revisionLink(&r), err
}

func (c *Console) showConfirmEntry(ctx context.Context, v *visit, f form, status int) error {
	all, err := c.Plans.Register(ctx, v.who())
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Key == v.r.PathValue("entry") {
			return v.show(page{Title: all[i].Title, Path: toPlan, Status: status, Crumbs: planCrumbs}, confirmEntryBody(v, f, &all[i]))
		}
	}
	return errNoEntry
}

func (c *Console) confirmEntry(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	in := governance.NewConfirmation{Entry: v.r.PathValue("entry"), Note: f.value("note")}
	if day := f.value("done"); day != "" {
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return "", problem.New(problem.Invalid, "day-format", "That is no day.").WithField("done").WithMend("Write it as 2026-11-30.")
		}
		in.Done = at
	}
	_, err := c.Plans.Confirm(ctx, v.who(), in)
	return toPlan, err
}

func (c *Console) showPlanReview(ctx context.Context, v *visit, f form, status int) error {
	s, err := c.Plans.Standing(ctx, v.who())
	if err != nil {
		return err
	}
	for _, r := range s.Reviews {
		if r.ID.String() == v.r.PathValue("review") && r.Closed == nil {
			return v.show(page{Title: "Review of the plan", Path: toPlan, Status: status, Crumbs: planCrumbs}, planReviewBody(v, f, r))
		}
	}
	return errNoReviewDue
}

func (c *Console) closePlanReview(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	id, err := v.pathID("review", errNoReviewDue)
	if err != nil {
		return "", err
	}
	_, err = c.Plans.CloseReview(ctx, v.who(), id, f.value("finding"))
	return toPlan, err
}

// severityState shows how much a finding matters.
func severityState(s lint.Severity) state {
	return map[lint.Severity]state{lint.Error: {bad, "Error"}, lint.Warning: {warn, "Warning"}, lint.Note: {idle, "Note"}}[s]
}

func dueState(d governance.Due) state {
	return map[string]state{governance.Lapsed: {bad, "Lapsed"}, governance.Soon: {warn, "Soon"}, governance.Undated: {warn, "No date"}, governance.Current: {ok, "Current"}}[d.State]
}

func planState(r *governance.Revision) state {
	return map[string]state{governance.InForce: {ok, "In force"}, governance.Waiting: {warn, "Waits for approval"}, governance.Rejected: {bad, "Rejected"}, governance.Superseded: {idle, "Superseded"}}[r.State]
}

func fallState(f plan.FunctionOutcome) state {
	words := map[plan.State]state{plan.Down: {bad, "Down"}, plan.Degraded: {warn, "Degraded"}, plan.Carried: {ok, "Carried"}, plan.Unstaffed: {warn, "Unstaffed"}, plan.Unplaced: {idle, "Unplaced"}}
	s := words[f.State]
	if f.By != "" {
		s.word += " by " + f.By
	}
	return s
}

// clockState shows how much of an objective is used up, in a shape and a word.
func clockState(c plan.Clock) state {
	switch {
	case c.Bound == 0:
		return state{idle, "No objective"}
	case c.Share > 1:
		return state{bad, "Missed"}
	case c.Share >= 0.8:
		return state{warn, "Near"}
	}
	return state{ok, "Within"}
}

// worstFirst orders findings by how much they matter, then as they stand in
// the file.
func worstFirst(findings []lint.Finding) []lint.Finding {
	out := slices.Clone(findings)
	slices.SortStableFunc(out, func(a, b lint.Finding) int { return int(b.Severity) - int(a.Severity) })
	return out
}

// lossSays is what is known of the loss of data where there is no objective.
func lossSays(m plan.Margin) string {
	if m.Loss != nil {
		return plan.FormatDuration(m.Loss.Total.Round(time.Second)) + ", no objective"
	}
	return m.LossSays
}

func clockText(c plan.Clock) string {
	return fmt.Sprintf("%s of %s", plan.FormatDuration(c.Expected.Round(time.Second)), plan.FormatDuration(c.Bound))
}

func spanWord(s plan.Span) string { return dash(s.String()) }

func backText(f plan.FunctionOutcome) string {
	switch {
	case f.Recovery != nil && len(f.Recovery.Unknown) > 0:
		return fmt.Sprintf("%s, %s assumed", plan.FormatDuration(f.Recovery.Total.Round(time.Minute)), plural(int64(len(f.Recovery.Unknown)), "step", "steps"))
	case f.Recovery != nil:
		return plan.FormatDuration(f.Recovery.Total.Round(time.Minute))
	case f.State == plan.Down:
		return "never by this plan"
	}
	return "–"
}

func dataLoss(f plan.FunctionOutcome) string {
	switch {
	case f.LossSays != "":
		return capital(f.LossSays)
	case f.Loss != nil:
		return plan.FormatDuration(f.Loss.Total.Round(time.Second))
	}
	return "–"
}

func dayOf(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2 Jan 2006")
}

func noticeWithin(n plan.Due) string {
	if n.Within.IsZero() {
		return "no time is given"
	}
	if n.Within.Vague() != "" {
		return fmt.Sprintf("%q, which is no time", n.Within.Vague())
	}
	out := "within " + n.Within.String()
	if n.From != "" {
		out += " of " + strings.ReplaceAll(n.From, "-", " ")
	}
	return out
}

// asWhom says whom of the plan somebody decided as.
func asWhom(d governance.Decision) string {
	if d.As == "" {
		return ""
	}
	return " as " + d.As
}

// booksOf lists the runbooks of a revision.
func booksOf(r *governance.Revision) []string { return slices.Sorted(maps.Keys(r.Books)) }

// bookSteps are the steps of a runbook; one that cannot be read was refused
// when it was handed in.
func bookSteps(name, text string) []plan.BookStep {
	steps, _ := plan.ParseBook(name, []byte(text))
	return steps
}

func boundOf(s plan.BookStep) string {
	if s.Bound.IsZero() {
		return "none"
	}
	return s.Bound.String()
}
