package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// form is what a person typed, with what is wrong about it.
type form struct {
	values  map[string]string
	problem *problem.Error // nil: nothing is wrong
}

func (f form) value(name string) string { return f.values[name] }

// wrong returns the problem if it is about a field. A problem that names no
// field of the form is about its first.
func (f form) wrong(field string) *problem.Error {
	if f.problem != nil && slices.Contains(strings.Split(f.problem.Field, ", "), field) {
		return f.problem
	}
	return nil
}

func readForm(r *http.Request, fields ...string) (form, error) {
	f := form{values: map[string]string{}}
	if err := r.ParseForm(); err != nil {
		return f, badForm(err)
	}
	for _, name := range fields {
		f.values[name] = strings.TrimSpace(r.PostForm.Get(name))
	}
	return f, nil
}

// mended returns err unless the person can mend it in the form.
func (f *form) mended(err error, fallback string) error {
	e := *problem.From(err) // a copy: it may be shared
	if e.Kind != problem.Invalid && e.Kind != problem.Conflict {
		return err
	}
	if e.Field == "" {
		e.Field = fallback
	}
	f.problem = &e
	return nil
}

type organisationsData struct {
	v    *visit
	rows []organisationRow
	form form
}

type organisationRow struct {
	*access.Organisation
	policy       sovereignty.Policy
	keys, active int64
}

func (c *Console) organisations(v *visit) error { return c.showOrganisations(v, form{}, 0) }

func (c *Console) showOrganisations(v *visit, f form, status int) error {
	d := organisationsData{v: v, form: f}
	directory := c.Verifier.Directory()
	for _, o := range directory.Organisations() {
		row := organisationRow{Organisation: o, policy: c.Gateway.Policy(o.ID)}
		for _, k := range directory.Keys() {
			if k.Organisation == o.ID {
				row.keys++
				if k.Status(v.now) == "active" {
					row.active++
				}
			}
		}
		d.rows = append(d.rows, row)
	}
	slices.SortFunc(d.rows, func(a, b organisationRow) int { return cmp.Compare(a.Name, b.Name) })
	return v.show(page{Title: "Organisations and keys", Path: toOrganisations, Status: status}, organisationsBody(d))
}

func (c *Console) createOrganisation(v *visit) error {
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	o, err := access.CreateOrganisation(ctx, c.DB, c.Guard, v.who(), f.value("name"))
	if err != nil {
		if err := f.mended(err, "name"); err != nil {
			return err
		}
		return c.showOrganisations(v, f, f.problem.Kind.Status())
	}
	if err := gateway.SetPolicy(ctx, c.DB, c.Guard, v.who(), o.ID, sovereignty.DefaultPolicy()); err != nil {
		return err
	}
	if err := c.Gateway.Refresh(ctx); err != nil {
		return err
	}
	return v.seeOther(organisationLink(o.Name))
}

// organisationData is what an organisation's page shows.
type organisationData struct {
	v       *visit
	names   names
	org     *access.Organisation
	policy  []string
	keys    []*access.Key
	budgets []ledger.BudgetRow
	away    bool // budgets could not be read
	hidden  bool // budgets are not for the visitor
	key     form
	budget  form
	token   string // of a key just made: shown once
	made    access.Key
}

func (c *Console) organisation(v *visit) error {
	return c.showOrganisation(v, v.r.PathValue("name"), func(*organisationData) {}, page{})
}

func (c *Console) showOrganisation(v *visit, name string, change func(*organisationData), p page) error {
	o, err := c.organisationNamed(name)
	if err != nil {
		return err
	}
	d := organisationData{v: v, names: c.names(), org: o, policy: sentences(c.Gateway.Policy(o.ID).Text())}
	for _, k := range c.Verifier.Directory().Keys() {
		if k.Organisation == o.ID {
			d.keys = append(d.keys, k)
		}
	}
	order := map[string]int{"active": 0, "expired": 1, "revoked": 2}
	slices.SortFunc(d.keys, func(a, b *access.Key) int {
		return cmp.Or(cmp.Compare(order[a.Status(v.now)], order[b.Status(v.now)]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	ctx, cancel := v.ctx()
	defer cancel()
	var all []ledger.BudgetRow
	if d.hidden = !v.may("budget.list", v.who().Organisation); !d.hidden {
		all, err = c.Store.Budgets(ctx, v.who())
	}
	if d.away = away(err); err != nil && !d.away {
		return err
	}
	for _, b := range all {
		if b.Organisation == o.ID {
			d.budgets = append(d.budgets, b)
		}
	}
	change(&d)
	p.Title, p.Path, p.Crumbs = o.Name, toOrganisations, []crumb{{"Organisations and keys", toOrganisations}}
	return v.show(p, organisationBody(d))
}

// createKey makes a key and shows its token: on this answer only.
func (c *Console) createKey(v *visit) error {
	name := v.r.PathValue("name")
	f, err := readForm(v.r, "name", "class_floor", "requests_per_minute", "tokens_per_minute", "expires_at")
	if err != nil {
		return err
	}
	o, err := c.organisationNamed(name)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	in, err := newKey(f)
	var k access.Key
	var token string
	if err == nil {
		in.Organisation = o.ID
		k, token, err = c.Verifier.CreateKey(ctx, c.DB, c.Guard, v.who(), in)
	}
	if err != nil {
		if err := f.mended(err, "name"); err != nil {
			return err
		}
		return c.showOrganisation(v, name, func(d *organisationData) { d.key = f }, page{Status: f.problem.Kind.Status()})
	}
	if err := c.Gateway.Refresh(ctx); err != nil {
		c.Log.Warn("a new key is not known to the gateway yet", "key", k.ID, "error", err)
	}
	return c.showOrganisation(v, name, func(d *organisationData) { d.token, d.made = token, k }, page{})
}

// newKey reads the form of a key.
func newKey(f form) (access.NewKey, error) {
	in := access.NewKey{Name: f.value("name")}
	if class := f.value("class_floor"); class != "" {
		floor, err := sovereignty.ParseDataClass(class)
		if err != nil {
			return in, problem.New(problem.Invalid, "data-class", "That is not a data class.").WithField("class_floor").WithMend("Choose one from the list.")
		}
		in.ClassFloor = int16(floor)
	}
	for field, to := range map[string]*int64{"requests_per_minute": &in.RequestsPerMinute, "tokens_per_minute": &in.TokensPerMinute} {
		if text := f.value(field); text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return in, problem.New(problem.Invalid, "key-limit", "A limit is a whole number.").WithField(field).WithMend("Leave it empty for no limit.")
			}
			*to = n
		}
	}
	if text := f.value("expires_at"); text != "" {
		last, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return in, problem.New(problem.Invalid, "key-expiry", "That is not a date.").WithField("expires_at").WithMend("Write it as YYYY-MM-DD.")
		}
		end := last.AddDate(0, 0, 1)
		in.ExpiresAt = &end
	}
	return in, nil
}

func (c *Console) setBudget(v *visit) error {
	name := v.r.PathValue("name")
	f, err := readForm(v.r, "limit", "period", "key", "alarm")
	if err != nil {
		return err
	}
	o, err := c.organisationNamed(name)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	b := ledger.Budget{Organisation: o.ID, Key: f.value("key"), Period: ledger.Period(f.value("period")), Currency: c.Gateway.Currency()}
	if b.AlarmPercent, err = strconv.Atoi(cmp.Or(f.value("alarm"), "80")); err != nil {
		err = problem.New(problem.Invalid, "budget-alarm", "The alarm line is a percentage from 1 to 100.").WithField("alarm")
	} else if b.LimitNano, err = c.Gateway.Amount(f.value("limit")); err == nil {
		err = c.DB.Org(ctx, o.ID, func(tx pgx.Tx) error {
			_, err := c.Store.SetBudget(ctx, tx, v.who(), b)
			return err
		})
	}
	if err != nil {
		if err := f.mended(err, "limit"); err != nil {
			return err
		}
		return c.showOrganisation(v, name, func(d *organisationData) { d.budget = f }, page{Status: f.problem.Kind.Status()})
	}
	if err := c.Gateway.Refresh(ctx); err != nil {
		return err
	}
	return v.seeOther(organisationLink(name))
}

// revokeData is the page on which a key is revoked.
type revokeData struct {
	v    *visit
	key  *access.Key
	org  string
	form form
}

func (c *Console) revokePage(v *visit) error { return c.showRevoke(v, form{}, 0) }

func (c *Console) showRevoke(v *visit, f form, status int) error {
	n := c.names()
	k := n.keys[v.r.PathValue("id")]
	if k == nil {
		return problem.New(problem.NotFound, "key-unknown", "There is no such key.").WithMend("Choose one on its organisation's page.")
	}
	org := n.organisation(k.Organisation)
	return v.show(page{Title: "Revoke " + k.Name, Path: toOrganisations, Status: status,
		Crumbs: []crumb{{"Organisations and keys", toOrganisations}, {org, organisationLink(org)}}}, revokeBody(revokeData{v, k, org, f}))
}

// revoke ends a key for good, once its name was typed.
func (c *Console) revoke(v *visit) error {
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	n := c.names()
	k := n.keys[v.r.PathValue("id")]
	if k != nil && f.value("name") != strings.TrimSpace(k.Name) {
		f.problem = problem.New(problem.Invalid, "name-differs", "That is not the key's name.").WithField("name").WithMend(fmt.Sprintf("Type %s to revoke it.", k.Name))
		return c.showRevoke(v, f, f.problem.Kind.Status())
	}
	if k == nil {
		return c.showRevoke(v, f, 0)
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := access.RevokeKey(ctx, c.DB, c.Guard, v.who(), k.ID); err != nil {
		return err
	}
	if err := c.Gateway.Refresh(ctx); err != nil {
		return err
	}
	return v.seeOther(organisationLink(n.organisation(k.Organisation)))
}

func keyState(k *access.Key, now time.Time) state {
	switch k.Status(now) {
	case "active":
		return state{ok, "Active"}
	case "expired":
		return state{warn, "Expired"}
	}
	return state{idle, "Revoked"}
}

func floorText(k *access.Key) string {
	if k.ClassFloor == 0 {
		return "none"
	}
	return sovereignty.DataClass(k.ClassFloor).String()
}

func limitText(n int64) string {
	if n == 0 {
		return "no limit"
	}
	return number(n)
}

func expiryText(k *access.Key) string {
	if k.ExpiresAt == nil {
		return "never"
	}
	return stamp(*k.ExpiresAt) + " UTC"
}

// budgetState is a budget's condition.
func budgetState(b ledger.BudgetRow) state {
	switch {
	case b.SpentNano >= b.LimitNano:
		return state{bad, "Spent"}
	case b.Alarmed || b.SpentNano*100 >= b.LimitNano*int64(b.AlarmPercent):
		return state{warn, "Past its alarm line"}
	}
	return state{ok, "In order"}
}

func budgetOf(b ledger.BudgetRow, n names) string {
	if b.Key == "" {
		return "The whole organisation"
	}
	return "Key " + n.key(b.Key)
}

func budgetUntil(b ledger.BudgetRow) string {
	if b.Period == ledger.Total {
		return "for ever"
	}
	return "until " + stamp(b.PeriodEnd) + " UTC"
}

func policyLine(p sovereignty.Policy) string {
	who := "own models only"
	if p.ThirdParties {
		who = "third parties too"
	}
	return who + ", up to " + p.Highest.String()
}
