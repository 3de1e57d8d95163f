package console

import (
	"cmp"
	"slices"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

// serviceKeyRoutes are about the API keys of service accounts.
func (c *Console) serviceKeyRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toServices + "/{account}", Action: "service-account.list", do: c.service},
		{Pattern: "POST " + toServices + "/{account}/keys", Action: "service-account.change", do: c.assignKey},
	}
}

type serviceData struct {
	v       *visit
	scope   scope
	account access.ServiceAccount
	keys    []*access.Key // of this account
	free    []*access.Key // that open something and could be given to it
	owners  map[string]string
	form    form
}

func serviceLink(s scope, a access.ServiceAccount, rest string) templ.SafeURL {
	return s.to(toServices + "/" + a.ID.String() + rest)
}

func (c *Console) service(v *visit) error { return c.showService(v, form{}, 0) }

func (c *Console) showService(v *visit, f form, status int) error {
	if c.People == nil {
		return errNoPeople
	}
	s, a, err := c.serviceNamed(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := serviceData{v: v, scope: s, account: a, form: f, owners: map[string]string{}}
	owned, err := c.People.KeysOfServiceAccounts(ctx, v.who(), s.id)
	if err != nil {
		return err
	}
	all, err := c.People.ServiceAccounts(ctx, v.who(), s.id)
	if err != nil {
		return err
	}
	called := map[uuid.UUID]string{}
	for _, one := range all {
		called[one.ID] = one.Name
	}
	for _, k := range c.Verifier.Directory().Keys() {
		switch {
		case k.Organisation != s.id:
		case owned[k.ID] == a.ID:
			d.keys = append(d.keys, k)
		case k.Status(v.now) == "active":
			d.free = append(d.free, k)
			d.owners[k.ID] = called[owned[k.ID]]
		}
	}
	byName := func(a, b *access.Key) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) }
	slices.SortFunc(d.keys, byName)
	slices.SortFunc(d.free, byName)
	p := page{Title: a.Name, Path: toPeople, Status: status, Crumbs: []crumb{{"People and roles", s.to(toPeople)}, {"Service accounts", s.to(toServices)}}}
	p.Notice = map[string]string{"assigned": "The key belongs to the service account now."}[v.r.URL.Query().Get("done")]
	return v.show(p, serviceBody(d))
}

// assignKey gives a key to a service account: it then stays when the person
// who made it leaves, and ends with the account.
func (c *Console) assignKey(v *visit) error {
	f, err := readForm(v.r, "key")
	if err != nil {
		return err
	}
	s, a, err := c.serviceNamed(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.People.AssignKey(ctx, v.who(), a.ID, f.value("key")); err != nil {
		if e := problem.From(err); e.Code == "key-unknown" { // chosen from a list that is out of date
			err = problem.New(problem.Invalid, e.Code, e.Detail).WithField("key").WithMend("Choose one from the list.")
		}
		if err := f.mended(err, "key"); err != nil {
			return err
		}
		return c.showService(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(s.to(toServices+"/"+a.ID.String(), "done", "assigned"))
}

// keyChoice is how a key is offered: by its name, its id, and whose it is.
func (d serviceData) keyChoice(k *access.Key) string {
	text := k.Name + " (" + k.ID + ")"
	if owner := d.owners[k.ID]; owner != "" {
		text += ", now of " + owner
	}
	return text
}
