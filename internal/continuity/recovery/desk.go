package recovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Desk is where people start recoveries, look at them, and say what a step
// waits for. It needs no database. Each act stands in the incident's timeline
// before it counts; what was refused stands there too.
type Desk struct {
	Store *member.Store
	Book  *incident.Book
	Plan  func() *plan.Plan // in force; may return nil
	Clock func() time.Time
	Doers map[string]Doer // that this installation has; for previews

	// May says whether somebody may do something, and audits a denial.
	May func(ctx context.Context, p principal.Principal, act policy.Action, target string) error
	// Who says which person of a plan a principal is; "": none, or that is not
	// known now.
	Who func(ctx context.Context, p principal.Principal, of *plan.Plan) (string, error)
	// Measured is what is known beside the plan.
	Measured func(ctx context.Context, of *plan.Plan) plan.Measured
	// Audit enters an act into the audit log, where that can be reached. The
	// timeline has it in any case. May be nil.
	Audit func(ctx context.Context, p principal.Principal, act, target string, details map[string]any)
}

// ErrOff says that this node carries no recoveries out.
var ErrOff = problem.New(problem.Unavailable, "recovery-off", "This node belongs to no fleet, and recoveries lie in the fleet's store.").WithMend("Remove fleet.off from its configuration, or ask a node that belongs to one.")

// Shown is a run as it is shown.
type Shown struct {
	Run
	Waits []string `json:"waits,omitempty"` // for what, and for whom
	Stale bool     `json:"stale,omitempty"` // as this node has it: most of the fleet does not answer
}

func (d *Desk) may(ctx context.Context, p principal.Principal, act policy.Action, target string) error {
	if d == nil || d.Store == nil {
		return ErrOff
	}
	return d.May(ctx, p, act, target)
}

// List shows all runs, the newest first.
func (d *Desk) List(ctx context.Context, p principal.Principal) ([]Shown, error) {
	if err := d.may(ctx, p, "recovery.read", ""); err != nil {
		return nil, err
	}
	all, stale, err := list(ctx, d.Store)
	out := []Shown{}
	for _, r := range all {
		out = append(out, Shown{r, r.Waits(), stale})
	}
	return out, err
}

// Get shows one run; "latest" is the newest that has not ended, or else the
// newest.
func (d *Desk) Get(ctx context.Context, p principal.Principal, id string) (Shown, error) {
	if err := d.may(ctx, p, "recovery.read", id); err != nil {
		return Shown{}, err
	}
	return d.get(ctx, id)
}

func (d *Desk) get(ctx context.Context, id string) (Shown, error) {
	all, stale, err := list(ctx, d.Store)
	if err != nil {
		return Shown{}, err
	}
	k := slices.IndexFunc(all, func(r Run) bool { return r.ID == id })
	if id == "latest" {
		if k = slices.IndexFunc(all, func(r Run) bool { return r.Ended.IsZero() }); k < 0 && len(all) > 0 {
			k = 0
		}
	}
	if k < 0 {
		return Shown{}, ErrUnknown
	}
	return Shown{all[k], all[k].Waits(), stale}, nil
}

// inForce is the plan in force and one of its recovery plans.
func (d *Desk) inForce(name string) (*plan.Plan, *plan.RecoveryPlan, error) {
	p := d.Plan()
	if p == nil {
		return nil, nil, problem.New(problem.NotFound, "recovery-no-plan", "No continuity plan is in force, as far as this node knows.").WithMend("`foundry plan submit` hands one in.")
	}
	rp := p.RecoveryPlan(name)
	if rp == nil {
		return nil, nil, problem.New(problem.NotFound, "recovery-plan-unknown", fmt.Sprintf("The plan in force has no recovery plan %.60q.", name)).WithField("plan").WithMend("`foundry recovery plans` lists them.")
	}
	return p, rp, nil
}

// Start begins a recovery, or gives the one that there is: an incident has one
// run of each recovery plan at a time. mine says whether this call began it.
func (d *Desk) Start(ctx context.Context, p principal.Principal, s Start) (out Shown, mine bool, err error) {
	if err := d.may(ctx, p, "recovery.start", s.Plan); err != nil {
		return out, false, err
	}
	of, rp, err := d.inForce(s.Plan)
	if err != nil {
		return out, false, err
	}
	r, err := d.prepare(ctx, p, of, rp, &s)
	if err != nil {
		return out, false, err
	}
	held, revision, err := d.held(ctx, s.Incident, rp.Name)
	if err != nil {
		return out, false, err
	}
	if held != "" {
		if out, err = d.get(ctx, held); err != nil || out.Outcome != "abandoned" {
			return out, false, err
		}
	}
	f, err := freeze(of)
	if err != nil {
		return out, false, err
	}
	facts := map[string]string{"run": r.ID, "plan": rp.Name, "hash": of.Hash(), "lost": strings.Join(r.Lost, " "), "onto": strings.Join(r.Onto, " ")}
	if _, err := d.record(ctx, p, r.Incident, ActStart, r.ID, "", "asked", s.Words, facts); err != nil {
		return out, false, err
	}
	writes := []member.Write{{Path: pathRun(r.ID), Value: r}, {Path: pathPlan(r.ID), Value: f}, {Path: pathOnce(r.Incident, rp.Name), Value: r.ID}}
	_, err = d.Store.PutAll(ctx, writes, member.IfRevision(pathOnce(r.Incident, rp.Name), revision), member.IfAbsent(pathRun(r.ID)))
	if errors.Is(err, member.ErrChanged) { // somebody else has pressed at the same moment
		if held, _, err = d.held(ctx, s.Incident, rp.Name); err == nil {
			_, _ = d.record(ctx, p, r.Incident, ActStart, held, "", "already", "Somebody else has started it at the same moment; there is one run.", map[string]string{"run": held, "asked": r.ID})
			out, err = d.get(ctx, held)
		}
		return out, false, err
	}
	return Shown{r, r.Waits(), false}, err == nil, err
}

// held is the run of a recovery plan in an incident; "": there is none.
func (d *Desk) held(ctx context.Context, incident, name string) (id string, revision int64, err error) {
	e, err := d.Store.Get(ctx, pathOnce(incident, name))
	if errors.Is(err, member.ErrAbsent) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	return id, e.Revision, e.Decode(&id)
}

// prepare makes the run that is asked for.
func (d *Desk) prepare(ctx context.Context, p principal.Principal, of *plan.Plan, rp *plan.RecoveryPlan, s *Start) (Run, error) {
	if len(rp.Steps) == 0 {
		return Run{}, problem.New(problem.Invalid, "recovery-plan-empty", "The recovery plan has no steps.").WithField("plan").WithMend("Write them, and have the plan approved.")
	}
	if name, found := circle(rp); found {
		return Run{}, problem.New(problem.Invalid, "recovery-plan-circle", fmt.Sprintf("The step %s can never begin: it waits for itself, or for a step that there is not.", name)).WithField("plan").WithMend("`foundry plan check` shows where.")
	}
	for _, node := range slices.Concat(s.Lost, s.Onto) {
		if of.Node(node) == nil {
			return Run{}, problem.New(problem.Invalid, "recovery-node-unknown", fmt.Sprintf("The plan has no node %.60q.", node)).WithMend("`foundry plan show` lists its nodes.")
		}
	}
	t, err := d.Book.Read(ctx, p, s.Incident)
	if err != nil {
		return Run{}, err
	}
	if !t.State.ClosedAt.IsZero() {
		return Run{}, incident.ErrOver
	}
	if s.Mode == "" {
		s.Mode = t.State.Mode
	}
	if s.Mode == incident.Real && t.State.Mode != incident.Real {
		return Run{}, problem.New(problem.Invalid, "recovery-mode", "The incident is an exercise, and this recovery would be real.").WithField("mode").WithMend("Leave the mode out, or open an incident that is real.")
	}
	if s.Scenario == "" {
		s.Scenario = t.State.Scenario
	}
	r := fresh(of, rp, *s, p.String(), d.Clock())
	r.ID = "rec-" + d.Clock().UTC().Format("20060102") + "-" + strings.ToLower(rand.Text()[:6])
	r.Lost = lost(of, rp, s, t.State)
	for _, node := range r.Onto {
		if slices.Contains(r.Lost, node) {
			return Run{}, problem.New(problem.Invalid, "recovery-onto-lost", node+" is lost: nothing can be recovered onto it.").WithField("onto").WithMend("Name another node with --onto.")
		}
	}
	return r, nil
}

// lost are the nodes that have to be fenced: those that the plan fences, and of
// those that the scenario or the incident names every one that carries what is
// brought back. Nobody who starts a recovery can leave one out.
func lost(p *plan.Plan, rp *plan.RecoveryPlan, s *Start, i *incident.State) (out []string) {
	var carries []string
	for _, name := range rp.Functions {
		if f := p.Function(name); f != nil {
			carries = append(carries, f.Host...)
		}
	}
	add := func(node string, always bool) {
		if p.Node(node) != nil && (always || slices.Contains(carries, node)) && !slices.Contains(out, node) {
			out = append(out, node)
		}
	}
	for k := range rp.Steps {
		if rp.Steps[k].Kind == "fence" {
			add(rp.Steps[k].Node, true)
		}
	}
	for _, node := range s.Lost {
		add(node, true)
	}
	for k := range p.Scenarios {
		if p.Scenarios[k].Name != s.Scenario {
			continue
		}
		for _, name := range p.Scenarios[k].Loses {
			add(name, false)
			for n := range p.Nodes {
				if p.Nodes[n].Site == name || p.Nodes[n].Supplier == name {
					add(p.Nodes[n].Name, false)
				}
			}
		}
	}
	if i.Category == incident.Outage {
		for _, node := range i.Scope.Nodes {
			add(node, false)
		}
	}
	return out
}

// record writes what somebody does into the timeline, and into the audit log
// where that can be reached.
func (d *Desk) record(ctx context.Context, p principal.Principal, id, act, run, step, outcome, words string, facts map[string]string) (int, error) {
	e, _, err := d.Book.Append(ctx, p, id, &incident.Act{Act: act, Target: run, Step: step, Outcome: outcome, Words: words, Facts: facts})
	if err != nil {
		return 0, err
	}
	if d.Audit != nil {
		details := map[string]any{"incident": id, "entry": e.N, "outcome": outcome}
		if step != "" {
			details["step"] = step
		}
		d.Audit(ctx, p, act, run, details)
	}
	return e.N, nil
}
