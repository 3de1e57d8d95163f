package fleet

import (
	"context"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Window is where people look at the fleet: it asks whether they may, and
// nothing of the database.
type Window struct {
	Service *Service
	Custody *survivor.Custody
	// May says whether somebody may look, and audits a denial.
	May func(ctx context.Context, p principal.Principal, action policy.Action, target string) error
}

// ErrNone says that this node watches no fleet.
var ErrNone = problem.New(problem.Unavailable, "fleet-off", "This node belongs to no fleet.").WithMend("Remove fleet.off from its configuration, or ask a node that belongs to one.")

// Picture is the fleet as this node sees it.
func (w *Window) Picture(ctx context.Context, p principal.Principal) (Picture, error) {
	if w == nil {
		return Picture{}, ErrNone
	}
	if err := w.May(ctx, p, "fleet.read", ""); err != nil {
		return Picture{}, err
	}
	return w.Service.Picture(), nil
}

// Readiness is which node could take over what now, and what is missing.
// Without a majority it is what this node has, which may be old.
func (w *Window) Readiness(ctx context.Context, p principal.Principal) ([]survivor.Readiness, error) {
	if w == nil {
		return nil, ErrNone
	}
	if err := w.May(ctx, p, "fleet.read", ""); err != nil {
		return nil, err
	}
	return w.Ready(ctx)
}

// Ready is Readiness for who may look.
func (w *Window) Ready(ctx context.Context) ([]survivor.Readiness, error) {
	out, err := w.Custody.Readiness(ctx, !w.Service.Picture().Majority)
	if out == nil {
		out = []survivor.Readiness{}
	}
	return out, err
}

// Losses are what was confirmed and is not in the audit log yet, oldest first.
func (w *Window) Losses(ctx context.Context, p principal.Principal) ([]Confirmed, error) {
	if w == nil {
		return nil, ErrNone
	}
	if err := w.May(ctx, p, "fleet.read", ""); err != nil {
		return nil, err
	}
	out, err := w.Service.Confirmed(ctx)
	if out == nil {
		out = []Confirmed{}
	}
	return out, err
}
