package api

import (
	"context"
	"net/http"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/apart"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/problem"
)

// window registers what is seen of the fleet.
func (a *API) window() {
	register(a, http.MethodGet, "/fleet/picture", "fleet-picture", "Show nodes and functions with what is held of each, and why", func(ctx context.Context, in *struct{ Caller }) (fleet.Picture, error) {
		return a.Window.Picture(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/fleet/readiness", "fleet-readiness", "Show which node could take over what now, and what is missing", func(ctx context.Context, in *struct{ Caller }) ([]survivor.Readiness, error) {
		return a.Window.Readiness(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/fleet/losses", "fleet-losses", "List confirmed losses that are not in the audit log yet, with their signals", func(ctx context.Context, in *struct{ Caller }) ([]fleet.Confirmed, error) {
		return a.Window.Losses(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/fleet/marks", "fleet-marks", "Make one-way marks of what this fleet must not share with another", func(ctx context.Context, in *struct{ Caller }) (apart.Marks, error) {
		if a.Marks == nil {
			return apart.Marks{}, problem.New(problem.Unsupported, "marks-nothing", "This process holds no secrets of clients.").WithMend("Ask a node with the role gateway.")
		}
		return a.Marks(ctx, in.Principal)
	})
}
