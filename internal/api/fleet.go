package api

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
)

type inviteNode struct {
	Caller
	Body struct {
		Name  string        `json:"name" doc:"Of the node: lower-case letters, digits and hyphens."`
		Roles []member.Role `json:"roles" doc:"Of gateway, fleet, inference, or witness alone."`
	}
}

type oneInvitation struct {
	Caller
	Selector string `path:"selector"`
}

type oneNode struct {
	Caller
	Name string `path:"name"`
}

type drainNode struct {
	Caller
	Name string `path:"name"`
	Body struct {
		Draining bool `json:"draining" doc:"False gives work back."`
	}
}

// fleet registers what is done with the nodes of the fleet.
func (a *API) fleet() {
	register(a, http.MethodGet, "/fleet", "fleet-status", "Show how the fleet is, as this node sees it", func(ctx context.Context, in *struct{ Caller }) (member.Status, error) {
		return a.Nodes.Status(ctx, in.Principal)
	})
	register(a, http.MethodGet, "/fleet/invitations", "fleet-invitation-list", "List invitations to the fleet", func(ctx context.Context, in *struct{ Caller }) ([]member.Invitation, error) {
		return a.Nodes.Invitations(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/fleet/invitations", "fleet-invite", "Invite a node: the answer has the token, once", func(ctx context.Context, in *inviteNode) (member.Invited, error) {
		return a.Nodes.Invite(ctx, in.Principal, in.Body.Name, in.Body.Roles)
	})
	register(a, http.MethodDelete, "/fleet/invitations/{selector}", "fleet-invitation-revoke", "Revoke an invitation that was not used", func(ctx context.Context, in *oneInvitation) (struct{}, error) {
		return struct{}{}, a.Nodes.Revoke(ctx, in.Principal, in.Selector)
	})
	register(a, http.MethodPut, "/fleet/nodes/{name}/draining", "fleet-drain", "Take work away from a node, or give it back", func(ctx context.Context, in *drainNode) (member.Node, error) {
		return a.Nodes.Drain(ctx, in.Principal, in.Name, in.Body.Draining)
	})
	register(a, http.MethodDelete, "/fleet/nodes/{name}", "fleet-remove", "Remove a node from the fleet: its vote and its certificates", func(ctx context.Context, in *oneNode) (struct{}, error) {
		return struct{}{}, a.Nodes.Remove(ctx, in.Principal, in.Name)
	})
	register(a, http.MethodPost, "/fleet/snapshots", "fleet-snapshot", "Write the fleet's store into a file on this node", func(ctx context.Context, in *struct{ Caller }) (member.Taken, error) {
		return a.Nodes.Snapshot(ctx, in.Principal)
	})
}

// NewNode makes the interface of a process that has no database: of all
// operations, those on the fleet.
func NewNode(version string, nodes *member.Desk, window *fleet.Window, incidents *incident.Window, recoveries *recovery.Desk, cluster *patroni.Desk, log *slog.Logger) *API {
	a := &API{Options: Options{Version: version, Nodes: nodes, Window: window, Incidents: incidents, Recoveries: recoveries, Patroni: cluster, Log: log}, mux: http.NewServeMux()}
	config := huma.DefaultConfig("Foundry administration", version)
	config.DocsPath, config.CreateHooks = "", nil
	config.Components.Schemas = newSchemas()
	a.huma = humago.New(a.mux, config)
	a.fleet()
	a.window()
	a.incidents()
	a.recoveries()
	a.patroni()
	return a
}
