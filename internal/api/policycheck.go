package api

import (
	"context"
	"net/http"

	"github.com/missionopsai/foundry/internal/access/policy"
)

type explainAccess struct {
	Caller
	Role         []string `query:"role" doc:"Role or roles of the person."`
	Action       string   `query:"action" required:"true" doc:"For example key.create."`
	Organisation string   `query:"organisation" enum:"own,other,platform" doc:"Whose it is. Default: where the person acts."`
	Owner        string   `query:"owner" enum:"self,other,nobody" doc:"Whom it belongs to, or who asked for it."`
	SecondFactor string   `query:"second_factor" doc:"none, or how long ago one was shown, e.g. 20m. Default: just now."`
	Grant        bool     `query:"grant" doc:"Under a staff grant for the organisation."`
}

// Policies is the set of policies in force.
type Policies struct {
	Digest   string          `json:"digest" doc:"SHA-256 of the schema and of every policy."`
	Mode     string          `json:"mode"`
	Policies []policy.Policy `json:"policies"`
}

// authorisation says who may do what: with the policies that are in force
// here, about people who do not exist.
func (a *API) authorisation() {
	register(a, http.MethodGet, "/authorisation/roles", "authorisation-roles", "List every action and the roles that hold it", func(ctx context.Context, in *struct{ Caller }) ([]policy.Permission, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "authorisation.list", policy.Resource{}); err != nil {
			return nil, err
		}
		return policy.Permissions(), nil
	})
	register(a, http.MethodGet, "/authorisation/policies", "authorisation-policies", "List the policies in force", func(ctx context.Context, in *struct{ Caller }) (Policies, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "authorisation.list", policy.Resource{}); err != nil {
			return Policies{}, err
		}
		e := a.Guard.Engine()
		return Policies{Digest: e.Digest(), Mode: a.Guard.Mode(), Policies: e.Policies()}, nil
	})
	register(a, http.MethodGet, "/authorisation/explain", "authorisation-explain", "Explain whether a role may do something, and which policy says so", func(ctx context.Context, in *explainAccess) (policy.Explanation, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "authorisation.explain", policy.Resource{}); err != nil {
			return policy.Explanation{}, err
		}
		return a.Guard.Engine().Explain(policy.Case{Roles: in.Role, Action: in.Action, Organisation: in.Organisation, Owner: in.Owner,
			SecondFactor: in.SecondFactor, Grant: in.Grant}, a.Guard.Mode())
	})
}
