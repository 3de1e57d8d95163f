package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/principal"
)

// RunControls starts a run of controls in the background.
type RunControls func(ctx context.Context, p principal.Principal, ids []string) (evidence.Job, error)

type runControls struct {
	Caller
	Body struct {
		Controls []string `json:"controls,omitempty" maxItems:"200" doc:"Ids such as O-08; without any, every control that a machine checks."`
	}
}

type controlHistory struct {
	Caller
	ID     string    `path:"id"`
	Limit  int       `query:"limit" minimum:"0" maximum:"1000" doc:"Default 50."`
	Before uuid.UUID `query:"before" doc:"Older than this observation."`
}

type attest struct {
	Caller
	ID   string `path:"id"`
	Body struct {
		Owner     string     `json:"owner" doc:"Who answers for it: a role or an account's id, no name."`
		Statement string     `json:"statement" doc:"What is so, in words."`
		Expires   *time.Time `json:"expires_at,omitempty" doc:"Default: as late as the control allows."`
	}
}

func (a *API) controls() {
	register(a, http.MethodGet, "/controls", "control-list", "List controls and how they stand", func(ctx context.Context, in *struct{ Caller }) ([]evidence.Status, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "controls.list", policy.Resource{Organisation: in.Principal.Organisation}); err != nil {
			return nil, err
		}
		return a.Controls.Board(ctx)
	})
	register(a, http.MethodGet, "/controls/{id}", "control-show", "Show a control with its latest evidence", func(ctx context.Context, in *byID) (evidence.Status, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "controls.read", policy.Resource{ID: in.ID, Organisation: in.Principal.Organisation}); err != nil {
			return evidence.Status{}, err
		}
		return a.Controls.Show(ctx, in.ID)
	})
	register(a, http.MethodGet, "/controls/{id}/evidence", "control-evidence", "List the observations of a control, the newest first", func(ctx context.Context, in *controlHistory) ([]evidence.Observation, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "evidence.list", policy.Resource{ID: in.ID, Organisation: in.Principal.Organisation}); err != nil {
			return nil, err
		}
		c, err := a.Controls.Control(in.ID)
		if err != nil {
			return nil, err
		}
		limit := in.Limit
		if limit == 0 {
			limit = 50
		}
		return evidence.History(ctx, a.DB, c.ID, in.Before, limit)
	})
	register(a, http.MethodPost, "/control-runs", "control-run", "Run controls now", func(ctx context.Context, in *runControls) (evidence.Job, error) {
		return a.RunControls(ctx, in.Principal, in.Body.Controls)
	})
	register(a, http.MethodGet, "/control-runs/{id}", "control-run-show", "Show how far a run has come", func(ctx context.Context, in *byID) (evidence.Job, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "controls.read", policy.Resource{ID: in.ID, Organisation: in.Principal.Organisation}); err != nil {
			return evidence.Job{}, err
		}
		id, _ := uuid.Parse(in.ID) // anything else is no run either
		return a.Controls.Job(id)
	})
	register(a, http.MethodPost, "/controls/{id}/attestations", "control-attest", "Answer for a control that no machine can check", func(ctx context.Context, in *attest) (evidence.Observation, error) {
		at := evidence.Attestation{Control: in.ID, Owner: in.Body.Owner, Statement: in.Body.Statement}
		if in.Body.Expires != nil {
			at.Expires = *in.Body.Expires
		}
		return a.Controls.AttestAs(ctx, a.Guard, in.Principal, at)
	})
	register(a, http.MethodDelete, "/control-scopes/{id}", "control-retire", "Expect no more evidence of a node that is gone", func(ctx context.Context, in *byID) (struct{}, error) {
		return struct{}{}, a.Controls.RetireAs(ctx, a.Guard, in.Principal, in.ID)
	})
}
