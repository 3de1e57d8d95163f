package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Grant is staff access to an organisation's data, with the name that people use.
type Grant struct {
	access.Grant
	OrganisationName string `json:"organisation_name"`
	Lasts            string `json:"duration" doc:"From approval, e.g. 1h0m0s."`
}

func (a *API) grant(g access.Grant) Grant {
	out := Grant{Grant: g, Lasts: g.Duration.String()}
	if o := a.Verifier.Directory().Organisation(g.Organisation); o != nil {
		out.OrganisationName = o.Name
	}
	return out
}

type requestGrant struct {
	Caller
	Body struct {
		Organisation string         `json:"organisation"`
		Scopes       []access.Scope `json:"scopes" doc:"requests, billing, audit or settings."`
		Reason       string         `json:"reason" doc:"10 to 1000 characters. The client reads it."`
		Ticket       string         `json:"ticket"`
		Duration     string         `json:"duration,omitempty" doc:"Such as 90m. Default 1h, at most 8h."`
	}
}

type breakGlass struct {
	Caller
	Body struct {
		Organisation string         `json:"organisation"`
		Person       uuid.UUID      `json:"person" doc:"Id of the person of the platform who gets in."`
		Scopes       []access.Scope `json:"scopes"`
		Reason       string         `json:"reason"`
		Ticket       string         `json:"ticket"`
		Duration     string         `json:"duration,omitempty" doc:"At most 1h, which is the default."`
	}
}

type listGrants struct {
	Caller
	Organisation string `query:"organisation"`
	Limit        int    `query:"limit" minimum:"0" maximum:"1000" doc:"Default 100."`
}

type grantID struct {
	Caller
	ID uuid.UUID `path:"id"`
}

type grantNote struct {
	Caller
	ID   uuid.UUID `path:"id"`
	Body struct {
		Note string `json:"note,omitempty"`
	}
}

// GrantRule says who may approve staff access to an organisation's data.
type GrantRule struct {
	Approvers access.Approvers `json:"approvers" doc:"either, organisation or platform-security."`
}

type setGrantRule struct {
	Caller
	Name string `path:"name"`
	Body GrantRule
}

func (a *API) grants() {
	register(a, http.MethodPost, "/grants", "grant-request", "Ask for access to an organisation's data", func(ctx context.Context, in *requestGrant) (Grant, error) {
		b := in.Body
		return a.newGrant(ctx, in.Principal, "grant.request", b.Organisation, b.Duration, access.NewGrant{Scopes: b.Scopes, Reason: b.Reason, Ticket: b.Ticket}, a.Grants.Request)
	})
	register(a, http.MethodPost, "/grants/break-glass", "break-glass-open", "Open access to an organisation's data without approval, on the server itself", func(ctx context.Context, in *breakGlass) (Grant, error) {
		b := in.Body
		return a.newGrant(ctx, in.Principal, "break-glass.open", b.Organisation, b.Duration,
			access.NewGrant{Scopes: b.Scopes, Reason: b.Reason, Ticket: b.Ticket, Holder: b.Person}, a.Grants.BreakGlass)
	})
	register(a, http.MethodGet, "/grants", "grant-list", "List staff access to organisations' data, newest first", func(ctx context.Context, in *listGrants) ([]Grant, error) {
		org, err := a.filter(ctx, in.Principal, "grant.list", in.Organisation)
		if err != nil {
			return nil, err
		}
		list, err := a.Grants.List(ctx, in.Principal, org, in.Limit)
		out := make([]Grant, len(list))
		for i, g := range list {
			out[i] = a.grant(g)
		}
		return out, err
	})
	register(a, http.MethodGet, "/grants/{id}", "grant-show", "Show one grant", func(ctx context.Context, in *grantID) (Grant, error) {
		g, err := a.Grants.Show(ctx, in.Principal, in.ID)
		return a.grant(g), err
	})
	for _, step := range []struct {
		verb, summary string
		do            func(context.Context, principal.Principal, uuid.UUID, string) (access.Grant, error)
	}{
		{"approve", "Let a grant begin", a.Grants.Approve},
		{"reject", "Refuse a grant", a.Grants.Reject},
		{"end", "End a grant at once, or withdraw a request", a.Grants.End},
		{"review", "Record what a review of a break-glass grant found", a.Grants.Review},
	} {
		register(a, http.MethodPost, "/grants/{id}/"+step.verb, "grant-"+step.verb, step.summary, func(ctx context.Context, in *grantNote) (Grant, error) {
			g, err := step.do(ctx, in.Principal, in.ID, in.Body.Note)
			return a.grant(g), err
		})
	}
	register(a, http.MethodGet, "/organisations/{name}/grant-rule", "grant-rule", "Show who may approve staff access", func(ctx context.Context, in *byName) (GrantRule, error) {
		o, err := a.organisation(ctx, in.Principal, "grant.list", in.Name)
		if err != nil {
			return GrantRule{}, err
		}
		rule, err := a.Grants.Rule(ctx, o.ID)
		return GrantRule{rule}, err
	})
	register(a, http.MethodPut, "/organisations/{name}/grant-rule", "grant-rule-set", "Say who may approve staff access", func(ctx context.Context, in *setGrantRule) (GrantRule, error) {
		o, err := a.organisation(ctx, in.Principal, "grant.rule", in.Name)
		if err != nil {
			return GrantRule{}, err
		}
		return in.Body, a.Grants.SetRule(ctx, in.Principal, o.ID, in.Body.Approvers)
	})
}

// newGrant finds the organisation and reads the duration of a new grant.
func (a *API) newGrant(ctx context.Context, p principal.Principal, action policy.Action, org, lasts string, in access.NewGrant,
	do func(context.Context, principal.Principal, access.NewGrant) (access.Grant, error)) (Grant, error) {
	if lasts != "" {
		var err error
		if in.Duration, err = time.ParseDuration(lasts); err != nil {
			return Grant{}, problem.New(problem.Invalid, "grant-duration", fmt.Sprintf("%q is no duration.", lasts)).WithField("duration").WithMend("Use for example 90m or 2h.")
		}
	}
	o, err := a.organisation(ctx, p, action, org)
	if err != nil {
		return Grant{}, err
	}
	in.Organisation = o.ID
	g, err := do(ctx, p, in)
	return a.grant(g), err
}

// clientPaths are the paths under which client data is read, and the scope
// of a grant that opens them to staff.
var clientPaths = []struct {
	path  string
	scope access.Scope
}{
	{"/api/v1/requests", access.ScopeRequests},
	{"/api/v1/refusals", access.ScopeRequests},
	{"/api/v1/transfers", access.ScopeRequests},
	{"/api/v1/audit", access.ScopeAudit},
}

// underGrant is who acts when somebody of the platform reads the data of an
// organisation that they name (?organisation=): the same person, in that
// organisation, under a grant that is in force. Others act as they are.
func (a *API) underGrant(r *http.Request, p principal.Principal) (principal.Principal, error) {
	if a.Grants == nil || p.Kind != principal.Person || !p.Platform() || r.Method != http.MethodGet {
		return p, nil
	}
	for _, c := range clientPaths {
		if r.URL.Path != c.path && !strings.HasPrefix(r.URL.Path, c.path+"/") {
			continue
		}
		name := r.URL.Query().Get("organisation")
		d := a.Verifier.Directory()
		o := d.OrganisationNamed(name)
		if id, err := uuid.Parse(name); o == nil && err == nil {
			o = d.Organisation(id)
		}
		if o == nil { // none, all or unknown: whoever decides about the operation says so
			return p, nil
		}
		acting, _, err := a.Grants.TryGrant(r.Context(), p, o.ID, c.scope)
		return acting, err
	}
	return p, nil
}
