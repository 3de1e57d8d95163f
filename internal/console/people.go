package console

import (
	"cmp"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) peopleRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toPeople, Action: "person.list", do: c.people},
		{Pattern: "GET " + toPeople + "/invite", Action: "person.invite", do: c.invitePage},
		{Pattern: "POST " + toPeople + "/invite", Action: "person.invite", do: c.invite},
		{Pattern: "GET " + toPeople + "/{person}", Action: "person.read", do: c.personPage},
		{Pattern: "POST " + toPeople + "/{person}/roles", Action: "membership.set", do: c.setRoles},
		{Pattern: "POST " + toPeople + "/{person}/unlock", Action: "person.unlock", do: c.unlock},
		{Pattern: "POST " + toPeople + "/{person}/recover", Action: "person.reset", do: c.recoverPerson},
		{Pattern: "POST " + toPeople + "/{person}/sign-out", Action: "session.revoke", do: c.signOutPerson},
		{Pattern: "GET " + toPeople + "/{person}/deactivate", Action: "person.deactivate", do: c.deactivatePage},
		{Pattern: "POST " + toPeople + "/{person}/deactivate", Action: "person.deactivate", do: c.deactivate},
		{Pattern: "POST " + toPeople + "/invitations/{invitation}/revoke", Action: "invitation.revoke", do: c.revokeInvitation},
		{Pattern: "POST " + toPeople + "/invitations/{invitation}/resend", Action: "invitation.resend", do: c.resendInvitation},
		{Pattern: "GET " + toServices, Action: "service-account.list", do: c.services},
		{Pattern: "POST " + toServices, Action: "service-account.create", do: c.createService},
		{Pattern: "GET " + toServices + "/{account}/deactivate", Action: "service-account.deactivate", do: c.deactivateServicePage},
		{Pattern: "POST " + toServices + "/{account}/deactivate", Action: "service-account.deactivate", do: c.deactivateService},
	}
}

// scope is the organisation whose people a page is about: the visitor's own,
// or for the platform the one that the query names.
type scope struct {
	id   uuid.UUID
	name string // platform: platformName
}

func (v *visit) scope() (scope, error) {
	id := v.subject().Organisation
	if id == uuid.Nil {
		return scope{name: platformName}, nil
	}
	o := v.c.Verifier.Directory().Organisation(id)
	if o == nil {
		return scope{}, problem.New(problem.NotFound, "organisation-unknown", "There is no such organisation.").WithMend("Choose one from the list of organisations.")
	}
	return scope{id, o.Name}, nil
}

// title names the scope in a heading.
func (s scope) title() string {
	if s.id == uuid.Nil {
		return "the platform"
	}
	return s.name
}

// roles are those that can be held there.
func (s scope) roles() (out []principal.Role) {
	for _, r := range principal.AllRoles() {
		if r.Platform() == (s.id == uuid.Nil) {
			out = append(out, r)
		}
	}
	return out
}

// to is a page of the scope.
func (s scope) to(path string, pairs ...string) templ.SafeURL {
	return with(path, append([]string{"organisation", s.name}, pairs...)...)
}

func (s scope) person(id uuid.UUID, rest string) templ.SafeURL {
	return s.to(toPeople + "/" + id.String() + rest)
}

type peopleData struct {
	v           *visit
	scope       scope
	choices     []string
	people      []access.Person
	invitations []access.Invitation
	link        string // of an invitation just made: shown once
	made        access.Invitation
}

func (c *Console) people(v *visit) error { return c.showPeople(v, nil) }

func (c *Console) showPeople(v *visit, change func(*peopleData)) error {
	if c.People == nil {
		return errNoPeople
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := peopleData{v: v, scope: s}
	if v.who().Platform() {
		d.choices = append([]string{platformName}, c.choices(v).Organisations...)
	}
	if d.people, err = c.People.List(ctx, v.who(), s.id); err != nil {
		return err
	}
	slices.SortFunc(d.people, func(a, b access.Person) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)))
	})
	if v.may("invitation.list", s.id) {
		if d.invitations, err = c.People.Invitations(ctx, v.who(), s.id); err != nil {
			return err
		}
	}
	if change != nil {
		change(&d)
	}
	p := page{Title: "People and roles", Path: toPeople}
	p.Notice = map[string]string{"deactivated": "The person is deactivated. Nothing of theirs opens anything any more.", "revoked": "The invitation is withdrawn."}[v.r.URL.Query().Get("done")]
	return v.show(p, peopleBody(d))
}

type inviteData struct {
	v     *visit
	scope scope
	form  form
	roles principal.Roles
}

func (c *Console) invitePage(v *visit) error { return c.showInvite(v, form{}, 0, 0) }

func (c *Console) showInvite(v *visit, f form, roles principal.Roles, status int) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	return v.show(page{Title: "Invite a person", Path: toPeople, Status: status, Crumbs: []crumb{{"People and roles", s.to(toPeople)}}}, inviteBody(inviteData{v, s, f, roles}))
}

// readRoles reads the roles that were ticked.
func readRoles(names []string) (principal.Roles, error) {
	var roles principal.Roles
	for _, n := range names {
		r, found := principal.ParseRole(n)
		if !found {
			return 0, problem.New(problem.Invalid, "role-unknown", "There is no such role.").WithField("roles").WithMend("Choose from the list.")
		}
		roles |= principal.RolesOf(r)
	}
	return roles, nil
}

func (c *Console) invite(v *visit) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "email", "name")
	if err != nil {
		return err
	}
	roles, err := readRoles(v.r.PostForm["roles"])
	if err == nil && roles == 0 {
		err = problem.New(problem.Invalid, "roles", "A person needs at least one role.").WithField("roles").WithMend("Choose the least that is enough.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	var in access.Invitation
	var token string
	if err == nil {
		in, token, err = c.People.Invite(ctx, v.who(), access.NewInvitation{Organisation: s.id, Email: f.value("email"), Name: f.value("name"), Roles: roles})
	}
	if err != nil {
		if err := f.mended(err, "email"); err != nil {
			return err
		}
		return c.showInvite(v, f, roles, f.problem.Kind.Status())
	}
	return c.showPeople(v, func(d *peopleData) { d.made, d.link = in, c.invitationURL(token) })
}

// invitationURL is where an invitation opens. The token stands behind the #.
func (c *Console) invitationURL(token string) string { return c.URL() + toInvitation + "#" + token }

func (c *Console) revokeInvitation(v *visit) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.People.RevokeInvitation(ctx, v.who(), v.r.PathValue("invitation")); err != nil {
		return err
	}
	return v.seeOther(s.to(toPeople, "done", "revoked"))
}

func (c *Console) resendInvitation(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	in, token, err := c.People.ResendInvitation(ctx, v.who(), v.r.PathValue("invitation"))
	if err != nil {
		return err
	}
	return c.showPeople(v, func(d *peopleData) { d.made, d.link = in, c.invitationURL(token) })
}

type personData struct {
	v        *visit
	names    names
	scope    scope
	person   access.Person
	roles    principal.Roles
	sessions []access.Session
	form     form
	link     string // with which the person chooses anew how to sign in: shown once
}

// personID is the person that the path names.
func (v *visit) personID() (uuid.UUID, error) {
	id, err := uuid.Parse(v.r.PathValue("person"))
	if err != nil {
		return id, problem.New(problem.NotFound, "person-unknown", "There is no such person.").WithMend("Choose one from the list.")
	}
	return id, nil
}

func (c *Console) personPage(v *visit) error { return c.showPerson(v, nil, 0) }

func (c *Console) showPerson(v *visit, change func(*personData), status int) error {
	if c.People == nil {
		return errNoPeople
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	id, err := v.personID()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := personData{v: v, names: c.names(), scope: s}
	if d.person, err = c.People.Show(ctx, v.who(), s.id, id); err != nil {
		return err
	}
	for _, m := range d.person.Memberships {
		if m.Organisation == s.id {
			d.roles = m.Roles
		}
	}
	if v.may("session.list", s.id) {
		if d.sessions, err = c.People.ListSessions(ctx, v.who(), id); err != nil && problem.From(err).Kind != problem.Denied {
			return err
		}
	}
	if change != nil {
		change(&d)
	}
	p := page{Title: d.person.Name, Path: toPeople, Status: status, Crumbs: []crumb{{"People and roles", s.to(toPeople)}}}
	p.Notice = map[string]string{"roles": "The roles are changed.", "unlocked": "The person can sign in again.", "signed-out": "Every session of the person has ended."}[v.r.URL.Query().Get("done")]
	return v.show(p, personBody(d))
}

func (c *Console) setRoles(v *visit) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	id, err := v.personID()
	if err != nil {
		return err
	}
	f, err := readForm(v.r)
	if err != nil {
		return err
	}
	roles, err := readRoles(v.r.PostForm["roles"])
	ctx, cancel := v.ctx()
	defer cancel()
	if err == nil {
		_, err = c.People.SetRoles(ctx, v.who(), s.id, id, roles)
	}
	if err != nil {
		if err := f.mended(err, "roles"); err != nil {
			return err
		}
		return c.showPerson(v, func(d *personData) { d.form, d.roles = f, roles }, f.problem.Kind.Status())
	}
	return v.seeOther(s.to(toPeople+"/"+id.String(), "done", "roles"))
}

func (c *Console) unlock(v *visit) error {
	return c.toPerson(v, "unlocked", func(id uuid.UUID) error {
		ctx, cancel := v.ctx()
		defer cancel()
		return c.People.Unlock(ctx, v.who(), id)
	})
}

func (c *Console) signOutPerson(v *visit) error {
	return c.toPerson(v, "signed-out", func(id uuid.UUID) error {
		ctx, cancel := v.ctx()
		defer cancel()
		_, err := c.People.RevokeSessions(ctx, v.who(), id)
		return err
	})
}

// toPerson does something to a person and shows them again.
func (c *Console) toPerson(v *visit, done string, act func(uuid.UUID) error) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	id, err := v.personID()
	if err == nil {
		err = act(id)
	}
	if err != nil {
		return err
	}
	return v.seeOther(s.to(toPeople+"/"+id.String(), "done", done))
}

// recoverPerson makes a link for a person who lost what they sign in with.
func (c *Console) recoverPerson(v *visit) error {
	id, err := v.personID()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	_, token, err := c.People.Recover(ctx, v.who(), id)
	if err != nil {
		return err
	}
	return c.showPerson(v, func(d *personData) { d.link = c.invitationURL(token) }, 0)
}

type deactivateData struct {
	v      *visit
	scope  scope
	person access.Person
	what   access.Footprint
	form   form
}

func (c *Console) deactivatePage(v *visit) error { return c.showDeactivate(v, form{}, 0) }

func (c *Console) showDeactivate(v *visit, f form, status int) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	id, err := v.personID()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := deactivateData{v: v, scope: s, form: f}
	if d.person, err = c.People.Show(ctx, v.who(), s.id, id); err != nil {
		return err
	}
	if d.what, err = c.People.Footprint(ctx, v.who(), id); err != nil {
		return err
	}
	return v.show(page{Title: "Deactivate " + d.person.Name, Path: toPeople, Status: status,
		Crumbs: []crumb{{"People and roles", s.to(toPeople)}, {d.person.Name, s.person(id, "")}}}, deactivateBody(d))
}

// deactivate ends a person's account for good, once their name was typed.
// Keys that are ticked stay: programs of the organisation may stand on them.
func (c *Console) deactivate(v *visit) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	id, err := v.personID()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	person, err := c.People.Show(ctx, v.who(), s.id, id)
	if err != nil {
		return err
	}
	if f.value("name") != strings.TrimSpace(person.Name) {
		f.problem = problem.New(problem.Invalid, "name-differs", "That is not the person's name.").WithField("name").WithMend("Type " + person.Name + " to deactivate them.")
		return c.showDeactivate(v, f, f.problem.Kind.Status())
	}
	if _, err := c.People.Deactivate(ctx, v.who(), id, v.r.PostForm["keep"]...); err != nil {
		if err := f.mended(err, "name"); err != nil {
			return err
		}
		return c.showDeactivate(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(s.to(toPeople, "done", "deactivated"))
}

type servicesData struct {
	v       *visit
	scope   scope
	choices []string
	list    []access.ServiceAccount
	form    form
}

func (c *Console) services(v *visit) error { return c.showServices(v, form{}, 0) }

func (c *Console) showServices(v *visit, f form, status int) error {
	if c.People == nil {
		return errNoPeople
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	d := servicesData{v: v, scope: s, form: f}
	if v.who().Platform() {
		d.choices = c.choices(v).Organisations
	}
	if s.id != uuid.Nil {
		ctx, cancel := v.ctx()
		defer cancel()
		if d.list, err = c.People.ServiceAccounts(ctx, v.who(), s.id); err != nil {
			return err
		}
	}
	return v.show(page{Title: "Service accounts", Path: toPeople, Status: status, Crumbs: []crumb{{"People and roles", s.to(toPeople)}}}, servicesBody(d))
}

func (c *Console) createService(v *visit) error {
	s, err := v.scope()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.People.CreateServiceAccount(ctx, v.who(), s.id, f.value("name")); err != nil {
		if err := f.mended(err, "name"); err != nil {
			return err
		}
		return c.showServices(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(s.to(toServices))
}

func (c *Console) serviceNamed(v *visit) (s scope, out access.ServiceAccount, err error) {
	if s, err = v.scope(); err != nil {
		return s, out, err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	all, err := c.People.ServiceAccounts(ctx, v.who(), s.id)
	if err != nil {
		return s, out, err
	}
	for _, a := range all {
		if a.ID.String() == v.r.PathValue("account") {
			return s, a, nil
		}
	}
	return s, out, problem.New(problem.NotFound, "service-account-unknown", "There is no such service account.").WithMend("Choose one from the list.")
}

func (c *Console) deactivateServicePage(v *visit) error {
	return c.showDeactivateService(v, form{}, 0)
}

func (c *Console) showDeactivateService(v *visit, f form, status int) error {
	s, a, err := c.serviceNamed(v)
	if err != nil {
		return err
	}
	return v.show(page{Title: "Deactivate " + a.Name, Path: toPeople, Status: status, Crumbs: []crumb{{"Service accounts", s.to(toServices)}}}, deactivateServiceBody(s, a, f))
}

func (c *Console) deactivateService(v *visit) error {
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	s, a, err := c.serviceNamed(v)
	if err != nil {
		return err
	}
	if f.value("name") != a.Name {
		f.problem = problem.New(problem.Invalid, "name-differs", "That is not its name.").WithField("name").WithMend("Type " + a.Name + " to deactivate it.")
		return c.showDeactivateService(v, f, f.problem.Kind.Status())
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.People.DeactivateServiceAccount(ctx, v.who(), a.ID); err != nil {
		return err
	}
	return v.seeOther(s.to(toServices))
}

// roleSays is what a role lets a person do.
var roleSays = map[principal.Role]string{
	principal.Viewer:                "Reads usage, requests and settings.",
	principal.Developer:             "Makes and revokes API keys, tries models.",
	principal.Operator:              "Changes budgets, limits and policies.",
	principal.Approver:              "Answers what the organisation is asked to approve.",
	principal.Auditor:               "Reads everything, the audit log included; changes nothing.",
	principal.Administrator:         "Manages people and roles, and everything above.",
	principal.PlatformOperator:      "Runs nodes, providers and organisations; sees no client data without a grant.",
	principal.PlatformSecurity:      "Keeps keys, audit log, access register and controls; approves staff access.",
	principal.PlatformAdministrator: "Manages the platform’s people and roles, and everything an operator does.",
}

func personState(p access.Person) state {
	switch {
	case p.Status != "active":
		return state{idle, "Deactivated"}
	case p.LockedUntil != nil:
		return state{warn, "Locked"}
	}
	return state{ok, "Active"}
}

// factorState says whether a person's second factor is as their roles demand.
func factorState(p access.Person, s scope) state {
	demanded := false
	for _, m := range p.Memberships {
		demanded = demanded || m.Organisation == s.id && m.Roles.Administrative()
	}
	switch {
	case p.Factors.Second():
		return state{ok, "Set up"}
	case demanded:
		return state{warn, "Missing"}
	}
	return state{idle, "None"}
}

func rolesIn(p access.Person, s scope) string {
	for _, m := range p.Memberships {
		if m.Organisation == s.id {
			return roleWords(m.RoleNames)
		}
	}
	return "none here"
}
