package console

import (
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) staffRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toGrants, Action: "grant.list", do: c.grants},
		{Pattern: "POST " + toGrants, Action: "grant.request", do: c.requestGrant},
		{Pattern: "GET " + toGrants + "/{grant}", Action: "grant.read", do: c.grant},
		{Pattern: "POST " + toGrants + "/{grant}/approve", Action: "grant.approve", do: c.onGrant},
		{Pattern: "POST " + toGrants + "/{grant}/reject", Action: "grant.reject", do: c.onGrant},
		{Pattern: "POST " + toGrants + "/{grant}/end", Action: "grant.list", do: c.onGrant}, // whoever holds it may end it: package access decides
		{Pattern: "GET " + toRegister, Action: "register.read", do: c.register},
		{Pattern: "POST " + toRegister + "/compare", Action: "register.compare", do: c.compareRegister},
		{Pattern: "GET " + toRegister + "/reviews/{review}", Action: "register.read", do: c.review},
		{Pattern: "POST " + toRegister + "/reviews", Action: "register.read", do: c.startReview},
		{Pattern: "POST " + toRegister + "/reviews/{review}", Action: "register.read", do: c.confirmAccess},
	}
}

var errNoGrants = problem.New(problem.Unavailable, "grants-away", "Staff access is not kept on this node.").WithMend("Ask a gateway node.")

type grantsData struct {
	v       *visit
	names   names
	scope   scope
	choices []string
	list    []access.Grant
	form    form
	scopes  []string         // ticked
	rule    access.Approvers // of the organisation; empty: of none
}

func (c *Console) grants(v *visit) error { return c.showGrants(v, form{}, nil, 0) }

func (c *Console) showGrants(v *visit, f form, ticked []string, status int) error {
	if c.Grants == nil {
		return errNoGrants
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := grantsData{v: v, names: c.names(), scope: s, form: f, scopes: ticked}
	if f.values == nil {
		d.form.values = map[string]string{"organisation": s.name, "minutes": "60"}
	}
	if d.list, err = c.Grants.List(ctx, v.who(), s.id, 100); err != nil {
		return err
	}
	if v.who().Platform() {
		d.choices = c.choices(v).Organisations
	}
	if s.id != uuid.Nil {
		if d.rule, err = c.Grants.Rule(ctx, s.id); err != nil {
			return err
		}
	}
	p := page{Title: "Staff access", Path: toGrants, Status: status}
	p.Notice = map[string]string{"rule": "The rule is changed."}[v.r.URL.Query().Get("done")]
	return v.show(p, grantsBody(d))
}

func (c *Console) requestGrant(v *visit) error {
	f, err := readForm(v.r, "organisation", "reason", "ticket", "minutes")
	if err != nil {
		return err
	}
	ticked := v.r.PostForm["scopes"]
	in := access.NewGrant{Reason: f.value("reason"), Ticket: f.value("ticket")}
	for _, s := range ticked {
		in.Scopes = append(in.Scopes, access.Scope(s))
	}
	o := c.Verifier.Directory().OrganisationNamed(f.value("organisation"))
	if o == nil {
		err = problem.New(problem.Invalid, "organisation-unknown", "There is no such organisation.").WithField("organisation").WithMend("Choose one from the list.")
	} else if in.Duration, err = time.ParseDuration(f.value("minutes") + "m"); err != nil {
		err = problem.New(problem.Invalid, "grant-duration", "That is not a number of minutes.").WithField("minutes").WithMend("Use 1 to 480.")
	}
	var g access.Grant
	if err == nil {
		ctx, cancel := v.ctx()
		defer cancel()
		in.Organisation = o.ID
		g, err = c.Grants.Request(ctx, v.who(), in)
	}
	if err != nil {
		if err := f.mended(err, "reason"); err != nil {
			return err
		}
		if f.problem.Field == "duration" {
			f.problem.Field = "minutes"
		}
		return c.showGrants(v, f, ticked, f.problem.Kind.Status())
	}
	return v.seeOther(grantLink(g))
}

func grantLink(g access.Grant) templ.SafeURL {
	return with(toGrants+"/"+g.ID.String(), "organisation", g.Organisation.String())
}

func grantAct(g access.Grant, act string) templ.SafeURL {
	return with(toGrants+"/"+g.ID.String()+"/"+act, "organisation", g.Organisation.String())
}

type grantData struct {
	v     *visit
	names names
	grant access.Grant
	form  form
}

func (c *Console) grant(v *visit) error { return c.showGrant(v, form{}, 0) }

func (c *Console) showGrant(v *visit, f form, status int) error {
	if c.Grants == nil {
		return errNoGrants
	}
	id, err := uuid.Parse(v.r.PathValue("grant"))
	if err != nil {
		return problem.New(problem.NotFound, "grant-unknown", "There is no such grant.").WithMend("Choose one from the list.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := grantData{v: v, names: c.names(), form: f}
	if d.grant, err = c.Grants.Show(ctx, v.who(), id); err != nil {
		return err
	}
	return v.show(page{Title: "Access to " + d.names.organisation(d.grant.Organisation), Path: toGrants, Status: status, Crumbs: []crumb{{"Staff access", toGrants}}}, grantBody(d))
}

// onGrant approves, rejects or ends.
func (c *Console) onGrant(v *visit) error {
	if c.Grants == nil {
		return errNoGrants
	}
	f, err := readForm(v.r, "note")
	if err != nil {
		return err
	}
	id, err := uuid.Parse(v.r.PathValue("grant"))
	if err != nil {
		return problem.New(problem.NotFound, "grant-unknown", "There is no such grant.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	var g access.Grant
	switch at := v.r.URL.Path; {
	case strings.HasSuffix(at, "/approve"):
		g, err = c.Grants.Approve(ctx, v.who(), id, f.value("note"))
	case strings.HasSuffix(at, "/reject"):
		g, err = c.Grants.Reject(ctx, v.who(), id, f.value("note"))
	default:
		g, err = c.Grants.End(ctx, v.who(), id, f.value("note"))
	}
	if err != nil {
		if err := f.mended(err, "note"); err != nil {
			return err
		}
		return c.showGrant(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(grantLink(g))
}

func grantState(g access.Grant) state {
	switch g.State {
	case access.GrantActive:
		return state{warn, "In force"}
	case access.GrantPending:
		return state{info, "Waits for approval"}
	case access.GrantRejected:
		return state{bad, "Refused"}
	}
	return state{idle, capital(string(g.State))}
}

// scopeSays is what a scope opens.
var scopeSays = map[access.Scope]string{
	access.ScopeRequests: "Which requests were made, refused and transferred, and why. Never what they said.",
	access.ScopeBilling:  "Usage, cost and budgets in detail.",
	access.ScopeAudit:    "The organisation’s audit log.",
	access.ScopeSettings: "Policies, keys and who has which role.",
}

func scopeWords(list []access.Scope) string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return strings.Join(out, ", ")
}

// holder is who a grant is for, as they are called.
func holder(g access.Grant) string {
	if g.HolderName != "" {
		return g.HolderName
	}
	return g.Holder
}

func (d grantData) mayDecide() bool {
	return d.grant.State == access.GrantPending && d.grant.Requester != d.v.who().String() && d.v.may("grant.approve", d.grant.Organisation)
}

func (d grantData) mayEnd() bool {
	return (d.grant.State == access.GrantActive || d.grant.State == access.GrantPending) &&
		(d.grant.Holder == d.v.who().String() || d.v.may("grant.revoke", d.grant.Organisation))
}

type registerData struct {
	v       *visit
	names   names
	scope   scope
	choices []string
	report  access.RegisterReport
	reviews []access.AccessReview
	kind    string
	form    form
}

func (c *Console) register(v *visit) error { return c.showRegister(v, nil, form{}, 0) }

func (c *Console) showRegister(v *visit, report *access.RegisterReport, f form, status int) error {
	if c.Register == nil {
		return errNoGrants
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := registerData{v: v, names: c.names(), scope: s, kind: v.r.URL.Query().Get("kind"), form: f}
	if report != nil {
		d.report = *report
	} else if d.report, err = c.Register.List(ctx, v.who(), s.id); err != nil {
		return err
	}
	if d.kind != "" {
		d.report.Entries = slices.DeleteFunc(d.report.Entries, func(a access.Access) bool { return a.Kind != d.kind })
	}
	if d.reviews, err = c.Register.Reviews(ctx, v.who(), s.id); err != nil && problem.From(err).Kind != problem.Denied {
		return err
	}
	if v.who().Platform() {
		d.choices = append([]string{platformName}, c.choices(v).Organisations...)
	}
	return v.show(page{Title: "Access register", Path: toRegister, Status: status}, accessBody(d))
}

func (c *Console) compareRegister(v *visit) error {
	if c.Register == nil {
		return errNoGrants
	}
	ctx, cancel := v.ctx()
	defer cancel()
	r, err := c.Register.Compare(ctx, v.who())
	if err != nil {
		return err
	}
	return c.showRegister(v, &r, form{}, 0)
}

func (c *Console) startReview(v *visit) error {
	if c.Register == nil {
		return errNoGrants
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "title", "days")
	if err != nil {
		return err
	}
	days, err := time.ParseDuration(f.value("days") + "h")
	if err != nil {
		err = problem.New(problem.Invalid, "review-days", "That is not a number of days.").WithField("days").WithMend("Use 1 to 90.")
	}
	var r access.AccessReview
	if err == nil {
		ctx, cancel := v.ctx()
		defer cancel()
		r, err = c.Register.StartReview(ctx, v.who(), s.id, f.value("title"), days*24)
	}
	if err != nil {
		if err := f.mended(err, "title"); err != nil {
			return err
		}
		return c.showRegister(v, nil, f, f.problem.Kind.Status())
	}
	return v.seeOther(reviewLink(r))
}

func reviewLink(r access.AccessReview) templ.SafeURL {
	org := platformName
	if r.Organisation != uuid.Nil {
		org = r.Organisation.String()
	}
	return with(toRegister+"/reviews/"+r.ID.String(), "organisation", org)
}

type reviewData struct {
	v      *visit
	names  names
	review access.AccessReview
	form   form
}

func (c *Console) review(v *visit) error { return c.showReview(v, form{}, 0) }

func (c *Console) showReview(v *visit, f form, status int) error {
	if c.Register == nil {
		return errNoGrants
	}
	id, err := uuid.Parse(v.r.PathValue("review"))
	if err != nil {
		return problem.New(problem.NotFound, "review-unknown", "There is no such review.").WithMend("Choose one from the list.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := reviewData{v: v, names: c.names(), form: f}
	if d.review, err = c.Register.ShowReview(ctx, v.who(), id); err != nil {
		return err
	}
	return v.show(page{Title: d.review.Title, Path: toRegister, Status: status, Crumbs: []crumb{{"Access register", toRegister}}}, reviewBody(d))
}

func (c *Console) confirmAccess(v *visit) error {
	if c.Register == nil {
		return errNoGrants
	}
	f, err := readForm(v.r, "kind", "entry", "result", "note")
	if err != nil {
		return err
	}
	id, err := uuid.Parse(v.r.PathValue("review"))
	if err != nil {
		return problem.New(problem.NotFound, "review-unknown", "There is no such review.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.Register.Confirm(ctx, v.who(), id, f.value("kind"), f.value("entry"), f.value("result"), f.value("note")); err != nil {
		if err := f.mended(err, "entry"); err != nil {
			return err
		}
		return c.showReview(v, f, f.problem.Kind.Status())
	}
	return c.showReview(v, form{}, 0)
}

func reviewState(r access.AccessReview) state {
	switch {
	case r.Overdue:
		return state{bad, "Overdue"}
	case r.Open == 0:
		return state{ok, "Done"}
	}
	return state{info, number(int64(r.Open)) + " open"}
}

func accessState(a access.Access) state {
	switch {
	case a.Unexplained != "":
		return state{bad, "Unexplained"}
	case !a.Open:
		return state{idle, "Closed"}
	}
	return state{ok, "Open"}
}

// unexplainedText says what is wrong with an entry that no act explains.
var unexplainedText = map[string]string{
	access.UnexplainedMade:    "No act in the audit log made it.",
	access.UnexplainedChanged: "No act in the audit log changed it.",
	access.UnexplainedGone:    "No act in the audit log removed it.",
}

// accessKinds are the kinds of entry of the register.
var accessKinds = []string{access.EntryPerson, access.EntryMembership, access.EntryInvitation, access.EntryService, access.EntryKey, access.EntryGrant,
	access.EntryDatabaseRole, access.EntryOSUser}

func kindWord(kind string) string {
	if kind == access.EntryOSUser {
		return "System user"
	}
	return capital(strings.ReplaceAll(kind, "-", " "))
}

func lastUsed(a access.Access, now time.Time) string {
	switch {
	case a.LastUsed != nil:
		return moment(*a.LastUsed, now)
	case a.UseKnown:
		return "never"
	}
	return "not recorded"
}

func since(at *time.Time) string {
	if at == nil {
		return "not known"
	}
	return day(*at)
}
