package console

import (
	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

// grantRuleRoutes say who may let staff in, and what came of letting somebody
// in without asking.
func (c *Console) grantRuleRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toGrantRule, Action: "grant.rule", do: c.grantRulePage},
		{Pattern: "POST " + toGrantRule, Action: "grant.rule", do: c.setGrantRule},
		{Pattern: "POST " + toGrants + "/{grant}/review", Action: "grant.review", do: c.reviewGrant},
	}
}

const toGrantRule = toGrants + "/rule"

// approversSay is what a rule means.
var approversSay = []struct {
	rule       access.Approvers
	word, says string
}{
	{access.ApproversEither, "The organisation or platform security", "An administrator or approver of the organisation, or somebody who holds platform-security. Quick, also at night."},
	{access.ApproversOrganisation, "The organisation only", "Nobody of the platform gets in unless somebody of the organisation agrees. At night that may mean that nobody can help."},
	{access.ApproversPlatform, "Platform security only", "The organisation is told of every grant and can end it, but is not asked."},
}

func approversWord(a access.Approvers) string {
	for _, s := range approversSay {
		if s.rule == a {
			return s.word
		}
	}
	return string(a)
}

type grantRuleData struct {
	v     *visit
	scope scope
	rule  access.Approvers
	form  form
}

func (c *Console) grantRulePage(v *visit) error { return c.showGrantRule(v, form{}, 0) }

func (c *Console) showGrantRule(v *visit, f form, status int) error {
	if c.Grants == nil {
		return errNoGrants
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	if s.id == uuid.Nil {
		return problem.New(problem.Invalid, "rule-organisation", "A rule belongs to one organisation.").WithMend("Choose the organisation on the page Staff access.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := grantRuleData{v: v, scope: s, form: f}
	if d.rule, err = c.Grants.Rule(ctx, s.id); err != nil {
		return err
	}
	if f.values == nil {
		d.form.values = map[string]string{"approvers": string(d.rule)}
	}
	return v.show(page{Title: "Who may approve staff access", Path: toGrants, Status: status, Crumbs: []crumb{{"Staff access", s.to(toGrants)}}}, grantRuleBody(d))
}

func (c *Console) setGrantRule(v *visit) error {
	if c.Grants == nil {
		return errNoGrants
	}
	f, err := readForm(v.r, "approvers")
	if err != nil {
		return err
	}
	s, err := v.scope()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.Grants.SetRule(ctx, v.who(), s.id, access.Approvers(f.value("approvers"))); err != nil {
		if err := f.mended(err, "approvers"); err != nil {
			return err
		}
		return c.showGrantRule(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(s.to(toGrants, "done", "rule"))
}

// reviewGrant records what somebody found who looked at what was done after
// the glass was broken.
func (c *Console) reviewGrant(v *visit) error {
	if c.Grants == nil {
		return errNoGrants
	}
	f, err := readForm(v.r, "finding")
	if err != nil {
		return err
	}
	id, err := uuid.Parse(v.r.PathValue("grant"))
	if err != nil {
		return problem.New(problem.NotFound, "grant-unknown", "There is no such grant.").WithMend("Choose one from the list.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	g, err := c.Grants.Review(ctx, v.who(), id, f.value("finding"))
	if err != nil {
		if err := f.mended(err, "finding"); err != nil {
			return err
		}
		f.problem.Field = "finding" // the form has one field
		return c.showGrant(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(grantLink(g))
}

// unreviewed reports whether a grant was opened without asking, and nobody has
// looked at it since.
func unreviewed(g access.Grant) bool {
	return g.Kind == access.GrantBreakGlass && g.ReviewedAt == nil
}

func (d grantData) mayReview() bool {
	me := d.v.who().String()
	return unreviewed(d.grant) && d.grant.Requester != me && d.grant.Holder != me && d.v.may("grant.review", d.grant.Organisation)
}

// trail is the audit log of the organisation, of what the holder did.
func (d grantData) trail() templ.SafeURL {
	return with(toAudit, "organisation", d.names.organisation(d.grant.Organisation), "actor", d.grant.Holder)
}
