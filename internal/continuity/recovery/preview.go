package recovery

import (
	"context"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
)

// Preview is what a recovery would do, without doing any of it.
type Preview struct {
	Plan      string          `json:"plan"`
	Title     string          `json:"title,omitempty"`
	Hash      string          `json:"hash"` // of the continuity plan in force
	Starts    string          `json:"starts"`
	Functions []string        `json:"functions,omitempty"`
	Lost      []string        `json:"lost,omitempty"`
	Onto      []string        `json:"onto,omitempty"`
	Expected  []ExpectedBack  `json:"expected,omitempty"`
	Steps     []PreviewedStep `json:"steps"`
	Problems  []string        `json:"problems,omitempty"` // what would keep it from ending
}

// ExpectedBack is when a function should be back.
type ExpectedBack struct {
	Function string        `json:"function"`
	Total    time.Duration `json:"total"` // from the start of the outage
	RTO      string        `json:"rto,omitempty"`
}

// PreviewedStep is one step of a preview.
type PreviewedStep struct {
	Name      string        `json:"name"`
	Kind      string        `json:"kind"`
	After     []string      `json:"after,omitempty"`
	Does      string        `json:"does"`
	By        string        `json:"by"` // foundry, or people
	Who       []string      `json:"who,omitempty"`
	Node      string        `json:"node,omitempty"`
	Functions []string      `json:"functions,omitempty"`
	Takes     time.Duration `json:"takes"`
	From      string        `json:"from"` // plan, measured, derived or assumed
	Gate      string        `json:"gate,omitempty"`
	Approve   []string      `json:"approved_by,omitempty"`
	Approvals int           `json:"approvals,omitempty"`
}

// Preview says for each step of a recovery plan what would be done, how long
// it should take, which gate holds it, and who has to be there.
func (d *Desk) Preview(ctx context.Context, p principal.Principal, s Start) (Preview, error) {
	if err := d.may(ctx, p, "recovery.read", s.Plan); err != nil {
		return Preview{}, err
	}
	of, rp, err := d.inForce(s.Plan)
	if err != nil {
		return Preview{}, err
	}
	state := incident.Fold(nil)
	if s.Incident != "" {
		t, err := d.Book.Read(ctx, p, s.Incident)
		if err != nil {
			return Preview{}, err
		}
		state = t.State
	}
	var m plan.Measured
	if d.Measured != nil {
		m = d.Measured(ctx, of)
	}
	r := fresh(of, rp, s, p.String(), d.Clock())
	r.ID, r.Lost = "rec-preview", lost(of, rp, &s, state)
	out := Preview{Plan: rp.Name, Title: rp.Title, Hash: of.Hash(), Starts: rp.Starts, Functions: rp.Functions, Lost: r.Lost, Onto: r.Onto, Steps: []PreviewedStep{}}
	if name, found := circle(rp); found {
		out.Problems = append(out.Problems, name+" can never begin: it waits for itself, or for a step that there is not.")
		return out, nil
	}
	for _, name := range rp.Functions {
		if f := of.Function(name); f != nil {
			e := of.RecoveryTime(rp, f, m)
			out.Expected = append(out.Expected, ExpectedBack{name, e.Total, f.RTO.String()})
		}
	}
	parts := of.StepTimes(rp, m)
	w := &World{Now: d.Clock(), Plan: of, Incident: state}
	for i := range rp.Steps {
		one, trouble := d.step(&r, rp, i, w)
		one.Takes, one.From = parts[i].Takes, parts[i].From
		out.Steps = append(out.Steps, one)
		if trouble != "" {
			out.Problems = append(out.Problems, one.Name+": "+trouble)
		}
	}
	return out, nil
}

func (d *Desk) step(r *Run, rp *plan.RecoveryPlan, i int, w *World) (out PreviewedStep, trouble string) {
	s := &rp.Steps[i]
	out = PreviewedStep{Name: s.Name, Kind: s.Kind, After: r.Steps[i].After, Node: s.Node, Functions: functionsOf(rp, s), Who: s.By, By: "people"}
	doer, known := d.Doers[s.Kind]
	switch {
	case spoken[s.Kind] != "":
		out.Does = "Somebody says it."
	case known && r.Mode != incident.Desktop:
		out.By, out.Does = "foundry", "Foundry does it."
		if doer.Says != nil {
			out.Does = doer.Says(Task{Run: *r, Step: *s, Plan: w.Plan, Attempt: 1, Functions: out.Functions})
		}
	default:
		out.Does = "Somebody does it, and says so with what shows it."
		for _, line := range guide(w.Plan, s) {
			out.Does += " " + line + "."
		}
	}
	if need := approvalOf(r, rp, i, w); need != nil {
		out.Approve, out.Approvals = need.Who, need.Count
		out.Gate = need.Words
	}
	switch {
	case slices.Contains(writers, s.Kind) && len(r.Lost) > 0:
		out.Gate = joined("Every lost node is fenced, and that was read back.", out.Gate)
		for _, node := range r.Lost {
			if !fencible(rp, node, i) {
				trouble = "the plan has no step that fences " + node + " before it: it can never begin."
			}
		}
	case s.Kind == "dns":
		out.Gate = joined("Everything that validates these functions has passed in this run, after whatever was started, and not more than "+plan.FormatDuration(stale)+" ago.", out.Gate)
		for _, name := range out.Functions {
			if !slices.ContainsFunc(rp.Steps, func(o plan.Step) bool { return o.Kind == "validate" && slices.Contains(functionsOf(rp, &o), name) }) {
				trouble = "no step validates " + name + ": it can never begin."
			}
		}
	case s.Kind == "wipe", s.Kind == "failback":
		out.Gate = joined("Nothing of the incident has to be kept as evidence there.", out.Gate)
	case s.Kind == "confirm":
		out.Gate = "Two signals of different kinds and from different observers."
	}
	return out, trouble
}

func joined(a, b string) string {
	if b == "" {
		return a
	}
	return a + " " + b
}

// Plans lists the recovery plans of the plan in force, each as it would be
// carried out now.
func (d *Desk) Plans(ctx context.Context, p principal.Principal) ([]Preview, error) {
	if err := d.may(ctx, p, "recovery.read", ""); err != nil {
		return nil, err
	}
	out := []Preview{}
	of := d.Plan()
	if of == nil {
		return out, nil
	}
	for i := range of.Recovery {
		one, err := d.Preview(ctx, p, Start{Plan: of.Recovery[i].Name})
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}
