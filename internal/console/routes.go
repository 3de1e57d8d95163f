package console

import (
	"cmp"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Route is a page or an act of the console, with what one must be allowed in
// order to open it. The domain packages authorise the acts themselves again.
type Route struct {
	Pattern string
	Action  policy.Action // empty: open to whoever has a session, about nothing but that session

	do     func(*visit) error
	shared bool // about the platform, yet open to organisations
	own    bool // about the visitor's own account
	// enrolling: open to a session whose person must enrol a second factor
	// before anything else.
	enrolling bool
}

// Routes lists every route that needs a session.
func (c *Console) Routes() []Route {
	r := []Route{
		{Pattern: "POST " + toSignOut, Action: "session.end", own: true, do: c.signOut, enrolling: true},
		{Pattern: "GET " + toOverview + "{$}", Action: "overview.read", do: c.overview},
		{Pattern: "GET " + toEvents, Action: "console.open", shared: true, do: c.events},
		{Pattern: "GET " + toRequests, Action: "request.list", do: c.requests},
		{Pattern: "GET " + toRequests + "/{id}", Action: "request.read", do: c.request},
		{Pattern: "GET " + toUsage, Action: "usage.read", do: c.usage},
		{Pattern: "GET " + toUsage + ".csv", Action: "usage.read", do: c.usageCSV},
		{Pattern: "GET " + toTransfers, Action: "transfer.list", do: c.transfers},
		{Pattern: "GET " + toTransfers + ".csv", Action: "transfer.list", do: c.transfersCSV},
		{Pattern: "GET " + toRefusals, Action: "refusal.list", do: c.refusals},
		{Pattern: "GET " + toRefusals + "/{organisation}/{hash}", Action: "refusal.read", do: c.refusal},
		{Pattern: "GET " + toProviders, Action: "provider.list", shared: true, do: c.providers},
		{Pattern: "GET " + toOrganisations, Action: "organisation.list", do: c.organisations},
		{Pattern: "POST " + toOrganisations, Action: "organisation.create", do: c.createOrganisation},
		{Pattern: "GET " + toOrganisations + "/{name}", Action: "organisation.read", do: c.organisation},
		{Pattern: "POST " + toOrganisations + "/{name}/keys", Action: "key.create", do: c.createKey},
		{Pattern: "POST " + toOrganisations + "/{name}/budgets", Action: "budget.set", do: c.setBudget},
		{Pattern: "GET " + toOrganisations + "/{name}/policy", Action: "policy.set", do: c.policyPage},
		{Pattern: "POST " + toOrganisations + "/{name}/policy", Action: "policy.set", do: c.setPolicy},
		{Pattern: "GET " + toKeys + "/{id}/revoke", Action: "key.revoke", do: c.revokePage},
		{Pattern: "POST " + toKeys + "/{id}/revoke", Action: "key.revoke", do: c.revoke},
		{Pattern: "GET " + toExplain, Action: "route.explain", do: c.explain},
		{Pattern: "GET " + toPlayground, Action: "playground.use", do: c.playground},
		{Pattern: "POST " + toPlayground + "/chat/{organisation}", Action: "playground.use", do: c.chat},
	}
	r = append(r, c.accountRoutes()...)
	r = append(r, c.peopleRoutes()...)
	r = append(r, c.auditRoutes()...)
	r = append(r, c.staffRoutes()...)
	r = append(r, c.encryptionRoutes()...)
	r = append(r, c.controlRoutes()...)
	r = append(r, c.backupRoutes()...)
	r = append(r, c.kitRoutes()...)
	r = append(r, c.mirrorRoutes()...)
	r = append(r, c.planRoutes()...)
	r = append(r, c.fleetRoutes()...)
	r = append(r, c.commandRoutes()...)
	r = append(r, c.incidentRoutes()...)
	r = append(r, c.recoveryRoutes()...)
	r = append(r, c.exerciseRoutes()...)
	r = append(r, c.outboxRoutes()...)
	r = append(r, c.holdRoutes()...)
	r = append(r, c.nodeKeyRoutes()...)
	r = append(r, c.attestRoutes()...)
	r = append(r, c.exportRoutes()...)
	r = append(r, c.requestProofRoutes()...)
	r = append(r, c.grantRuleRoutes()...)
	r = append(r, c.serviceKeyRoutes()...)
	return append(r, Route{Pattern: "GET " + toOverview, Action: "console.open", shared: true, do: c.nothing}) // every other path below it
}

// subject is what a route is about.
func (r Route) subject(v *visit) policy.Resource {
	switch {
	case r.shared:
		return policy.Resource{}
	case r.own:
		return policy.Resource{Organisation: v.who().Organisation, ID: v.who().ID, Owner: v.who().ID}
	}
	return v.subject()
}

// platformName stands for the platform where an organisation is named.
const platformName = "platform"

// subject is the organisation that the path or the query names, or else the
// one that the visitor acts in.
func (v *visit) subject() policy.Resource {
	r := policy.Resource{Organisation: v.who().Organisation}
	if id := v.r.PathValue("id"); id != "" {
		r.ID = id
		if k := v.c.names().keys[id]; k != nil {
			r.Organisation = k.Organisation
			return r
		}
	}
	name := cmp.Or(v.r.PathValue("organisation"), v.r.PathValue("name"), v.r.URL.Query().Get("organisation"))
	switch id, err := uuid.Parse(name); {
	case name == "":
	case name == platformName:
		r.Organisation = uuid.Nil
	case err == nil:
		r.Organisation = id
	default:
		if o := v.c.Verifier.Directory().OrganisationNamed(name); o != nil {
			r.Organisation = o.ID
		} else if !v.who().Platform() {
			r.Organisation = uuid.Max // which others there are is nobody's business: denied like them
		}
	}
	return r
}

// admit decides whether the visitor may open a route. Staff open an
// organisation's data by a grant only, and act in that organisation from then
// until the answer is made.
func (c *Console) admit(v *visit, r Route) error {
	if r.Action == "" {
		return nil
	}
	ctx, cancel := v.ctx()
	defer cancel()
	about := r.subject(v)
	staff := v.own() && v.who().Platform()
	if staff && r.Action.ClientData() && about.Organisation == uuid.Nil && r.Action.Type() != "audit" {
		return errChoose
	}
	if scope, covered := access.ScopeOf(r.Action); covered && c.Grants != nil && staff && about.Organisation != uuid.Nil && r.Action.ClientData() {
		under, err := c.Grants.UseGrant(ctx, v.who(), about.Organisation, scope)
		if err != nil {
			return err
		}
		v.as = under
	}
	return c.Guard.Authorise(ctx, v.who(), r.Action, about)
}

// errChoose is what staff are told who ask for the data of all clients.
var errChoose = problem.New(problem.Denied, "organisation-needed", "Staff see the requests of one organisation at a time, and only while a grant for it is in force.").
	WithMend("Ask for access to the organisation's data; somebody else has to approve it.")

// may reports whether the visitor would be allowed something: for what a page
// offers. It leaves no trace in the audit log.
func (v *visit) may(action policy.Action, org uuid.UUID) bool {
	if v.session == nil {
		return false
	}
	d := v.c.Guard.Decide(v.who(), action, policy.Resource{Organisation: org})
	return d.Allowed || d.StepUp
}

// own reports whether the visitor is a person who signed in.
func (v *visit) own() bool { return v.session != nil && v.who().Kind == principal.Person }

// person is the signed-in person, or why the page is not for this session.
func (v *visit) person() (principal.Principal, error) {
	if !v.own() {
		return principal.Principal{}, problem.New(problem.Denied, "no-account", "This session was opened by a link: it belongs to nobody, so it has no account.").
			WithMend("Invite yourself on the page People and roles, and sign in.")
	}
	return v.who(), nil
}

// acting is what the visitor acts for.
func (v *visit) acting() string {
	if v.who().Platform() {
		return "the platform"
	}
	return v.c.names().organisation(v.who().Organisation)
}

// client is where the request comes from.
func (v *visit) client() access.Client { return clientOf(v.r) }
