package api

import (
	"context"
	"fmt"
	"net/http"
	"sort"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Organisation is an organisation with its policy.
type Organisation struct {
	access.Organisation
	Policy sovereignty.Policy `json:"policy"`
	Text   []string           `json:"policy_text" doc:"What the policy says, in sentences."`
}

type createOrganisation struct {
	Caller
	Body struct {
		Name   string         `json:"name" doc:"1 to 63 lower-case letters, digits and dashes."`
		Policy policyDocument `json:"policy,omitempty" doc:"Default: the fleet's own models in the EEA only."`
	}
}

type byName struct {
	Caller
	Name string `path:"name"`
}

type setPolicy struct {
	Caller
	Name string `path:"name"`
	Body policyDocument
}

func (a *API) organisations() {
	register(a, http.MethodPost, "/organisations", "organisation-create", "Make an organisation", func(ctx context.Context, in *createOrganisation) (Organisation, error) {
		policy, err := in.Body.Policy.policy()
		if err != nil {
			return Organisation{}, err
		}
		o, err := access.CreateOrganisation(ctx, a.DB, a.Guard, in.Principal, in.Body.Name)
		if err != nil {
			return Organisation{}, err
		}
		if err := gateway.SetPolicy(ctx, a.DB, a.Guard, in.Principal, o.ID, policy); err != nil {
			return Organisation{}, err
		}
		a.refresh(ctx)
		return withPolicy(o, policy), nil
	})
	register(a, http.MethodGet, "/organisations", "organisation-list", "List organisations", func(ctx context.Context, in *struct{ Caller }) ([]Organisation, error) {
		if err := a.Guard.Authorise(ctx, in.Principal, "organisation.list", policy.Resource{Organisation: in.Principal.Organisation}); err != nil {
			return nil, err
		}
		out := []Organisation{}
		for _, o := range a.Verifier.Directory().Organisations() {
			if own := in.Principal.Organisation; own == uuid.Nil || own == o.ID {
				out = append(out, withPolicy(*o, a.Gateway.Policy(o.ID)))
			}
		}
		sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
		return out, nil
	})
	register(a, http.MethodGet, "/organisations/{name}", "organisation-show", "Show an organisation", func(ctx context.Context, in *byName) (Organisation, error) {
		o, err := a.organisation(ctx, in.Principal, "organisation.read", in.Name)
		if err != nil {
			return Organisation{}, err
		}
		return withPolicy(*o, a.Gateway.Policy(o.ID)), nil
	})
	register(a, http.MethodPut, "/organisations/{name}/policy", "policy-set", "Replace an organisation's policy", func(ctx context.Context, in *setPolicy) (Organisation, error) {
		o, err := a.organisation(ctx, in.Principal, "policy.set", in.Name)
		if err != nil {
			return Organisation{}, err
		}
		policy, err := in.Body.policy()
		if err != nil {
			return Organisation{}, err
		}
		if err := gateway.SetPolicy(ctx, a.DB, a.Guard, in.Principal, o.ID, policy); err != nil {
			return Organisation{}, err
		}
		a.refresh(ctx)
		return withPolicy(*o, policy), nil
	})
}

func withPolicy(o access.Organisation, p sovereignty.Policy) Organisation {
	return Organisation{Organisation: o, Policy: p, Text: splitLines(p.Text())}
}

type createKey struct {
	Caller
	Body struct {
		Organisation      string                `json:"organisation" doc:"Name of the organisation."`
		Name              string                `json:"name" doc:"What uses the key."`
		ClassFloor        sovereignty.DataClass `json:"class_floor,omitempty" doc:"Least data class that requests of this key count as."`
		RequestsPerMinute int64                 `json:"requests_per_minute,omitempty"`
		TokensPerMinute   int64                 `json:"tokens_per_minute,omitempty"`
		ExpiresAt         *time.Time            `json:"expires_at,omitempty"`
	}
}

// Key is an API key, with the names that people use.
type Key struct {
	access.Key
	OrganisationName string `json:"organisation_name"`
	Class            string `json:"class,omitempty"`
	Status           string `json:"status"`
	Token            string `json:"token,omitempty" doc:"Shown once, when the key is made."`
}

type listKeys struct {
	Caller
	Organisation string `query:"organisation"`
}

type byID struct {
	Caller
	ID string `path:"id"`
}

func (a *API) keys() {
	register(a, http.MethodPost, "/keys", "key-create", "Make an API key", func(ctx context.Context, in *createKey) (Key, error) {
		o, err := a.organisation(ctx, in.Principal, "key.create", in.Body.Organisation)
		if err != nil {
			return Key{}, err
		}
		k, token, err := a.Verifier.CreateKey(ctx, a.DB, a.Guard, in.Principal, access.NewKey{Organisation: o.ID, Name: in.Body.Name,
			ClassFloor: int16(in.Body.ClassFloor), RequestsPerMinute: in.Body.RequestsPerMinute, TokensPerMinute: in.Body.TokensPerMinute,
			ExpiresAt: in.Body.ExpiresAt})
		if err != nil {
			return Key{}, err
		}
		out := a.key(&k)
		out.Token = token
		a.refresh(ctx)
		return out, nil
	})
	register(a, http.MethodGet, "/keys", "key-list", "List API keys", func(ctx context.Context, in *listKeys) ([]Key, error) {
		org, err := a.filter(ctx, in.Principal, "key.list", in.Organisation)
		if err != nil {
			return nil, err
		}
		out := []Key{}
		for _, k := range a.Verifier.Directory().Keys() {
			if org == uuid.Nil || org == k.Organisation {
				out = append(out, a.key(k))
			}
		}
		sort.Slice(out, func(i, j int) bool {
			return out[i].OrganisationName < out[j].OrganisationName || out[i].OrganisationName == out[j].OrganisationName && out[i].Name < out[j].Name
		})
		return out, nil
	})
	register(a, http.MethodDelete, "/keys/{id}", "key-revoke", "Revoke an API key", func(ctx context.Context, in *byID) (Key, error) {
		k, err := access.RevokeKey(ctx, a.DB, a.Guard, in.Principal, in.ID)
		if err != nil {
			return Key{}, err
		}
		a.refresh(ctx)
		return a.key(&k), nil
	})
}

func (a *API) key(k *access.Key) Key {
	v := Key{Key: *k, Status: k.Status(time.Now())}
	if k.ClassFloor != 0 {
		v.Class = sovereignty.DataClass(k.ClassFloor).String()
	}
	if o := a.Verifier.Directory().Organisation(k.Organisation); o != nil {
		v.OrganisationName = o.Name
	}
	return v
}

// organisation finds an organisation by name or id, for somebody who may do
// action there. Whoever acts in one organisation cannot tell whether another
// exists: both answers are the same denial.
func (a *API) organisation(ctx context.Context, p principal.Principal, action policy.Action, name string) (*access.Organisation, error) {
	d := a.Verifier.Directory()
	o := d.OrganisationNamed(name)
	if id, err := uuid.Parse(name); o == nil && err == nil {
		o = d.Organisation(id)
	}
	r := policy.Resource{ID: name}
	switch {
	case o != nil:
		r.Organisation = o.ID
	case p.Organisation != uuid.Nil:
		r.Organisation = uuid.Max
	}
	if err := a.Guard.Authorise(ctx, p, action, r); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, problem.New(problem.NotFound, "organisation-unknown", fmt.Sprintf("There is no organisation named %q.", name)).
			WithField("organisation").WithMend("`foundry org list` shows them.")
	}
	return o, nil
}

// filter resolves an optional organisation for somebody who may do action
// there. Empty means the caller's own, and all of them for the platform.
func (a *API) filter(ctx context.Context, p principal.Principal, action policy.Action, name string) (uuid.UUID, error) {
	if name == "" {
		return p.Organisation, a.Guard.Authorise(ctx, p, action, policy.Resource{Organisation: p.Organisation})
	}
	o, err := a.organisation(ctx, p, action, name)
	if err != nil {
		return uuid.Nil, err
	}
	return o.ID, nil
}
