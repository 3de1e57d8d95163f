package recovery

import (
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
)

// Start says what is to be carried out.
type Start struct {
	Plan     string        `json:"plan"` // name of a recovery plan
	Incident string        `json:"incident"`
	Scenario string        `json:"scenario,omitempty"`
	Mode     incident.Mode `json:"mode,omitempty"` // the incident's when empty
	Lost     []string      `json:"lost,omitempty"` // nodes, beside those that the scenario and the plan name
	Onto     []string      `json:"onto,omitempty"` // nodes, in place of the plan's
	Words    string        `json:"words,omitempty"`
}

// fresh is a run before anything was done.
func fresh(p *plan.Plan, rp *plan.RecoveryPlan, s Start, by string, now time.Time) Run {
	r := Run{Name: rp.Name, Title: rp.Title, Plan: p.Hash(), Incident: s.Incident, Scenario: s.Scenario, Mode: s.Mode, Onto: rp.Onto, Starter: by, Started: now.UTC()}
	if len(s.Onto) > 0 {
		r.Onto = s.Onto
	}
	for i := range rp.Steps {
		st := StepState{Name: rp.Steps[i].Name, Kind: rp.Steps[i].Kind, State: Waiting}
		for _, k := range after(rp, i) {
			if k >= 0 {
				st.After = append(st.After, rp.Steps[k].Name)
			}
		}
		r.Steps = append(r.Steps, st)
	}
	return r
}
