package lint

import (
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

var accountRules = []Rule{
	{
		ID: "approver-without-account", Title: "Somebody approves the plan whom nothing identifies", Group: "governance", Severity: Warning,
		Why:    "Whether it was the board that approved can then not be seen: anybody whose role lets them approve counts as the person whom the plan names.",
		Mend:   "Write account: at the person, with the e-mail address or the id with which they sign in.",
		Source: "ISO 22301:2019, 7.5.2",
		check:  approverWithoutAccount,
	},
}

func approverWithoutAccount(c *Context) {
	for i, name := range c.Organisation.Approvers {
		x := c.Person(name)
		if x == nil || x.Account != "" {
			continue
		}
		place := at("people", slices.IndexFunc(c.People, func(p plan.Person) bool { return p.Name == name }))
		c.Report(place, about("person", name), "Person %q approves the plan, and has no account by which that is seen.", name).With(at("organisation.approvers", i))
	}
	if n := c.Organisation.Approvals; n > len(c.Organisation.Approvers) && len(c.Organisation.Approvers) > 0 {
		c.Report("organisation.approvals", "the organisation", "The plan asks for %d approvals, and names %d people to approve it: it can never come into force.", n, len(c.Organisation.Approvers)).As(Error).
			Saying("Name as many approvers as approvals, or ask for fewer.")
	}
}
