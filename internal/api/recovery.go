package api

import (
	"context"
	"net/http"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/incident"
)

// StartRecovery is what is to be carried out.
type StartRecovery struct {
	Plan     string   `json:"plan" doc:"Name of a recovery plan of the plan in force."`
	Incident string   `json:"incident,omitempty" doc:"Whose timeline takes every step; a preview needs none."`
	Scenario string   `json:"scenario,omitempty" doc:"Of the plan. Default: the incident's."`
	Mode     string   `json:"mode,omitempty" doc:"real, desktop, sandbox or live. Default: the incident's."`
	Lost     []string `json:"lost,omitempty" maxItems:"50" doc:"Nodes that are lost, beside those that the scenario and the plan name."`
	Onto     []string `json:"onto,omitempty" maxItems:"50" doc:"Nodes to recover onto, in place of the plan's."`
	Words    string   `json:"words,omitempty" maxLength:"4000"`
}

func (s StartRecovery) start() recovery.Start {
	return recovery.Start{Plan: s.Plan, Incident: s.Incident, Scenario: s.Scenario, Mode: incident.Mode(s.Mode), Lost: s.Lost, Onto: s.Onto, Words: s.Words}
}

// SaidOfRecovery is what somebody says of a step.
type SaidOfRecovery struct {
	Words    string            `json:"words,omitempty" maxLength:"4000"`
	Evidence []string          `json:"evidence,omitempty" maxItems:"50" doc:"What shows it: an entry, a ticket, a hash."`
	Facts    map[string]string `json:"facts,omitempty" doc:"Of a fence: fenced-by and state."`
	Options  []string          `json:"options,omitempty" maxItems:"20" doc:"Of a decision: what else there was."`
	No       bool              `json:"no,omitempty" doc:"Rejects in place of approving; says that it failed in place of done."`
}

// StartedRecovery is a run, and whether this call began it.
type StartedRecovery struct {
	recovery.Shown
	Began bool `json:"began"`
}

type startRecovery struct {
	Caller
	Body StartRecovery
}

type oneRecovery struct {
	Caller
	Run string `path:"run" maxLength:"100" doc:"Or latest."`
}

type sayRecovery struct {
	Caller
	Run  string `path:"run" maxLength:"100"`
	Step string `path:"step" maxLength:"100"`
	Body SaidOfRecovery
}

type abandonRecovery struct {
	Caller
	Run  string `path:"run" maxLength:"100"`
	Body struct {
		Words string `json:"words" maxLength:"4000" doc:"Why."`
	}
}

// recoveries registers what is done with recoveries. None of it needs the
// database.
func (a *API) recoveries() {
	register(a, http.MethodGet, "/recoveries", "recovery-list", "List recoveries, the newest first", func(ctx context.Context, in *struct{ Caller }) ([]recovery.Shown, error) {
		return a.Recoveries.List(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/recovery-plans", "recovery-plans", "List the recovery plans in force, as each would be carried out", func(ctx context.Context, in *struct{ Caller }) ([]recovery.Preview, error) {
		return a.Recoveries.Plans(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/recovery-previews", "recovery-preview", "Show what a recovery would do, without doing any of it", func(ctx context.Context, in *startRecovery) (recovery.Preview, error) {
		return a.Recoveries.Preview(ctx, in.Principal, in.Body.start())
	})
	register(a, http.MethodPost, "/recoveries", "recovery-start", "Start a recovery, or give the one that the incident has", func(ctx context.Context, in *startRecovery) (StartedRecovery, error) {
		run, began, err := a.Recoveries.Start(ctx, in.Principal, in.Body.start())
		return StartedRecovery{run, began}, err
	})
	register(a, http.MethodGet, "/recoveries/{run}", "recovery-status", "Show a recovery: its steps, gates, and whom it waits for", func(ctx context.Context, in *oneRecovery) (recovery.Shown, error) {
		return a.Recoveries.Get(ctx, in.Principal, in.Run)
	})
	register(a, http.MethodPost, "/recoveries/{run}/abandon", "recovery-abandon", "Give a recovery up", func(ctx context.Context, in *abandonRecovery) (recovery.Shown, error) {
		return a.Recoveries.Abandon(ctx, in.Principal, in.Run, in.Body.Words)
	})
	word := func(in *sayRecovery) recovery.Word {
		return recovery.Word{Step: in.Step, Words: in.Body.Words, Evidence: in.Body.Evidence, Facts: in.Body.Facts, Options: in.Body.Options}
	}
	register(a, http.MethodPost, "/recoveries/{run}/steps/{step}/approve", "recovery-approve", "Approve a step, or reject it", func(ctx context.Context, in *sayRecovery) (recovery.Shown, error) {
		return a.Recoveries.Approve(ctx, in.Principal, in.Run, word(in), in.Body.No)
	})
	register(a, http.MethodPost, "/recoveries/{run}/steps/{step}/decide", "recovery-decide", "Record the decision that a step waits for", func(ctx context.Context, in *sayRecovery) (recovery.Shown, error) {
		return a.Recoveries.Decide(ctx, in.Principal, in.Run, word(in))
	})
	register(a, http.MethodPost, "/recoveries/{run}/steps/{step}/say", "recovery-say", "Say that a step is done and what shows it, or that it failed", func(ctx context.Context, in *sayRecovery) (recovery.Shown, error) {
		return a.Recoveries.Say(ctx, in.Principal, in.Run, word(in), in.Body.No)
	})
	register(a, http.MethodPost, "/recoveries/{run}/steps/{step}/retry", "recovery-retry", "Try a step again that failed", func(ctx context.Context, in *sayRecovery) (recovery.Shown, error) {
		return a.Recoveries.Retry(ctx, in.Principal, in.Run, word(in))
	})
	register(a, http.MethodPost, "/recoveries/{run}/steps/{step}/skip", "recovery-skip", "Go on without a step; a gate is not skipped", func(ctx context.Context, in *sayRecovery) (recovery.Shown, error) {
		return a.Recoveries.Skip(ctx, in.Principal, in.Run, word(in))
	})
}
