package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

type newRevision struct {
	Caller
	Body governance.NewRevision
}

type decideRevision struct {
	Caller
	ID   string `path:"id"`
	Body struct {
		Approve bool   `json:"approve"`
		Reason  string `json:"reason,omitempty" doc:"Why; a rejection needs 10 characters at least."`
	}
}

type acknowledgePlan struct {
	Caller
	Body struct {
		Hash string `json:"hash" doc:"Of the plan that was read."`
	}
}

type confirmEntry struct {
	Caller
	Body governance.NewConfirmation
}

type closeReview struct {
	Caller
	ID   string `path:"id"`
	Body struct {
		Finding string `json:"finding" doc:"What was looked at, and what follows: 10 to 2000 characters."`
	}
}

type whatif struct {
	Caller
	Lose []string `query:"lose,explode" doc:"What is lost, by name or by kind and name." minItems:"1" maxItems:"20"`
}

// planLoss is what a loss does to the plan in force.
type planLoss struct {
	plan.Outcome
	Copied *time.Time `json:"copied_at,omitempty" doc:"Only while the database is away: of when this node's copy of the plan is."`
}

func planID(text string) (uuid.UUID, error) {
	if text == "current" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil {
		return id, problem.New(problem.NotFound, "plan-unknown", "There is no such revision of the plan.").WithField("id").WithMend("`foundry plan revisions` lists them; current is the one in force.")
	}
	return id, nil
}

func (a *API) plan() {
	register(a, http.MethodGet, "/plan", "plan-standing", "Say how the continuity plan stands: findings, margins, what lapses, and its weakest point", func(ctx context.Context, in *struct{ Caller }) (governance.Standing, error) {
		return a.Plans.Standing(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/plan/whatif", "plan-whatif", "Say what falls with what is lost", func(ctx context.Context, in *whatif) (planLoss, error) {
		o, r, _, err := a.Plans.Whatif(ctx, in.Principal, in.Lose...)
		return planLoss{o, r.Copied}, err
	})
	register(a, http.MethodGet, "/plan/revisions", "plan-revisions", "List the revisions of the plan", func(ctx context.Context, in *struct{ Caller }) ([]governance.Revision, error) {
		return a.Plans.List(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/plan/revisions", "plan-submit", "Hand in a plan", func(ctx context.Context, in *newRevision) (governance.Revision, error) {
		return a.Plans.Submit(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodGet, "/plan/revisions/{id}", "plan-show", "Show a revision with its text, its findings and what it changes; current is the one in force", func(ctx context.Context, in *byID) (governance.Revision, error) {
		id, err := planID(in.ID)
		if err != nil {
			return governance.Revision{}, err
		}
		return a.Plans.Show(ctx, in.Principal, id)
	})
	register(a, http.MethodPost, "/plan/revisions/{id}/decisions", "plan-decide", "Approve or reject a revision", func(ctx context.Context, in *decideRevision) (governance.Revision, error) {
		id, err := planID(in.ID)
		if err != nil {
			return governance.Revision{}, err
		}
		return a.Plans.Decide(ctx, in.Principal, id, in.Body.Approve, in.Body.Reason)
	})
	register(a, http.MethodPost, "/plan/acknowledgements", "plan-acknowledge", "Say that one has read the plan in force", func(ctx context.Context, in *acknowledgePlan) (governance.Revision, error) {
		return a.Plans.Acknowledge(ctx, in.Principal, in.Body.Hash)
	})
	register(a, http.MethodGet, "/plan/register", "plan-register", "List what in the plan lapses or comes round", func(ctx context.Context, in *struct{ Caller }) ([]governance.Due, error) {
		return a.Plans.Register(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/plan/register", "plan-confirm", "Say that something of the registers was done", func(ctx context.Context, in *confirmEntry) (governance.Due, error) {
		return a.Plans.Confirm(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodPost, "/plan/reviews/{id}", "plan-review", "Say what a review of the plan has found", func(ctx context.Context, in *closeReview) (governance.Review, error) {
		id, err := planID(in.ID)
		if err != nil {
			return governance.Review{}, err
		}
		return a.Plans.CloseReview(ctx, in.Principal, id, in.Body.Finding)
	})
}
