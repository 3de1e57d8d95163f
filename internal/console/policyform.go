package console

import (
	"slices"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// policyFields are the fields of the form, named as in the policy document, so
// that what is wrong with a policy is shown at its field.
var policyFields = []string{"regime", "allowed", "home", "third_parties", "ceilings.own", "ceilings.near", "ceilings.elsewhere",
	"require_no_retention", "highest", "allowed_features", "version", "do"}

// policyData is what the page of an organisation's policy shows.
type policyData struct {
	v      *visit
	org    *access.Organisation
	form   form
	before []sentenceLine
	after  []sentenceLine // nil: not compared yet
	wider  []string       // how data may go further than before
	same   bool
}

// sentenceLine is a sentence of a policy, marked where the other policy does
// not say the same.
type sentenceLine struct {
	text    string
	changed bool
}

func policyValues(p sovereignty.Policy, version int64) map[string]string {
	class := func(c sovereignty.DataClass) string {
		if !c.Valid() {
			return ""
		}
		return c.String()
	}
	return map[string]string{"regime": string(p.Regime), "allowed": p.Allowed.String(), "home": p.Home.String(), "third_parties": strconv.FormatBool(p.ThirdParties),
		"ceilings.own": class(p.Ceilings.Own), "ceilings.near": class(p.Ceilings.Near), "ceilings.elsewhere": class(p.Ceilings.Elsewhere),
		"require_no_retention": class(p.RequireNoRetention), "highest": class(p.Highest), "allowed_features": strings.Join(p.AllowedFeatures, ", "),
		"version": strconv.FormatInt(version, 10)}
}

// readPolicy reads the form. Like the document it is read strictly.
func readPolicy(f form) (sovereignty.Policy, error) {
	p := sovereignty.Policy{Regime: sovereignty.Regime(f.value("regime")), ThirdParties: f.value("third_parties") == "true", AllowedFeatures: words(f.value("allowed_features"))}
	for name, to := range map[string]*sovereignty.Set{"allowed": &p.Allowed, "home": &p.Home} {
		set, err := sovereignty.ParseSet(words(f.value(name))...)
		if err != nil {
			e := *problem.From(err)
			e.Field = name
			return p, &e
		}
		*to = set
	}
	for name, to := range map[string]*sovereignty.DataClass{"ceilings.own": &p.Ceilings.Own, "ceilings.near": &p.Ceilings.Near, "ceilings.elsewhere": &p.Ceilings.Elsewhere,
		"require_no_retention": &p.RequireNoRetention, "highest": &p.Highest} {
		text := f.value(name)
		if text == "" {
			continue
		}
		class, err := sovereignty.ParseDataClass(text)
		if err != nil {
			e := *problem.From(err)
			e.Field = name
			return p, &e
		}
		*to = class
	}
	err := p.Validate()
	if err == nil {
		return p, nil
	}
	e := *problem.From(err)
	e.Field, _, _ = strings.Cut(e.Field, "[") // one of a list stands in one field here
	return p, &e
}

// words splits what was typed at commas and spaces.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
}

// compared marks what two policies do not both say.
func compared(before, after sovereignty.Policy) (was, will []sentenceLine) {
	a, b := sentences(before.Text()), sentences(after.Text())
	for _, s := range a {
		was = append(was, sentenceLine{s, !slices.Contains(b, s)})
	}
	for _, s := range b {
		will = append(will, sentenceLine{s, !slices.Contains(a, s)})
	}
	return was, will
}

// widened lists in which ways a policy lets data go further than another.
func widened(before, after sovereignty.Policy) (out []string) {
	if !before.Allowed.Contains(after.Allowed) {
		out = append(out, "Countries are added.")
	}
	if after.ThirdParties && !before.ThirdParties {
		out = append(out, "Providers outside the fleet become allowed.")
	}
	for _, c := range []struct {
		who           string
		before, after sovereignty.DataClass
	}{{"the fleet’s own models", before.Ceilings.Own, after.Ceilings.Own}, {"third parties nearby", before.Ceilings.Near, after.Ceilings.Near}, {"third parties elsewhere", before.Ceilings.Elsewhere, after.Ceilings.Elsewhere}} {
		if c.after > c.before {
			out = append(out, "More sensitive data may go to "+c.who+".")
		}
	}
	if max(after.RequireNoRetention, 1) > max(before.RequireNoRetention, 1) {
		out = append(out, "More data may go to providers that keep it.")
	}
	if after.Highest < before.Highest {
		out = append(out, "Requests that name no data class count as less sensitive.")
	}
	for _, f := range after.AllowedFeatures {
		if !slices.Contains(before.AllowedFeatures, f) {
			out = append(out, "The feature "+f+" becomes allowed.")
		}
	}
	return out
}

func (c *Console) policyPage(v *visit) error {
	o, err := c.organisationNamed(v.r.PathValue("name"))
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	now, version, err := gateway.StoredPolicy(ctx, c.DB, o.ID)
	if err != nil {
		return err
	}
	return c.showPolicy(v, policyData{org: o, form: form{values: policyValues(now, version)}}, 0)
}

func (c *Console) showPolicy(v *visit, d policyData, status int) error {
	d.v = v
	title := "Policy"
	if d.after != nil {
		title = "Compare the policy"
	}
	return v.show(page{Title: title, Path: toOrganisations, Status: status, Crumbs: []crumb{{"Organisations and keys", toOrganisations}, {d.org.Name, organisationLink(d.org.Name)}}}, policyBody(d))
}

// setPolicy shows what a changed policy would say, and sets it once that was
// seen. The version makes sure that what was seen is what is replaced.
func (c *Console) setPolicy(v *visit) error {
	o, err := c.organisationNamed(v.r.PathValue("name"))
	if err != nil {
		return err
	}
	f, err := readForm(v.r, policyFields...)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	now, version, err := gateway.StoredPolicy(ctx, c.DB, o.ID)
	if err != nil {
		return err
	}
	next, err := readPolicy(f)
	if err == nil && f.value("version") != strconv.FormatInt(version, 10) {
		f.values["version"] = strconv.FormatInt(version, 10)
		err = problem.New(problem.Conflict, "policy-changed", "Somebody else changed this policy meanwhile.").
			WithMend("What you typed is kept: compare it with what the policy says now.")
	}
	if err == nil && f.value("do") == "set" {
		if err = gateway.SetPolicy(ctx, c.DB, c.Guard, v.who(), o.ID, next, version); err == nil {
			if err := c.Gateway.Refresh(ctx); err != nil {
				return err
			}
			return v.seeOther(organisationLink(o.Name))
		}
	}
	if err != nil {
		if err := f.mended(err, "policy"); err != nil {
			return err
		}
		return c.showPolicy(v, policyData{org: o, form: f}, f.problem.Kind.Status())
	}
	d := policyData{org: o, form: f}
	if f.value("do") == "compare" {
		d.before, d.after = compared(now, next)
		d.wider = widened(now, next)
		d.same = !slices.ContainsFunc(append(slices.Clone(d.before), d.after...), func(s sentenceLine) bool { return s.changed })
	}
	return c.showPolicy(v, d, 0)
}
