package lint

import (
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// governanceRules judge who decides, who comes, and what has run out. The rule
// about suppressions that accept nothing reads the findings of all the others,
// so it is the last of all rules.
var governanceRules = slices.Concat([]Rule{
	{
		ID: "one-person-every-role", Title: "One person operates, owns and approves", Group: "governance", Severity: Error,
		Why:    "Nobody else ever looks at the plan, so its mistakes stay until the night they matter; and everything stops with that person.",
		Mend:   "Let somebody else approve, and let a second person operate.",
		Source: "ISO/IEC 27001:2022, A.5.3; ISO 22301:2019, 5.3",
		check:  onePersonEveryRole,
	},
	{
		ID: "no-cover-inside-mtd", Title: "Nobody else comes before the maximum tolerable downtime", Group: "governance", Severity: Warning,
		Why:    "People are ill, asleep and on aeroplanes. If the next in line is called only after the function may no longer be down, the recovery time holds on good days only.",
		Mend:   "Name a second operator, or a deputy who is reachable and engaged within the MTD; a contract for on-call help does. Otherwise lengthen the MTD to what you can keep.",
		Source: "ISO 22301:2019, 8.4.2; NIST SP 800-34 r1, 3.4.6",
		check:  noCoverInsideMTD,
	},
	{
		ID: "nobody-recovers", Title: "Nobody is named who recovers a function", Group: "governance", Severity: Warning,
		Why:    "When everybody may act, everybody waits for somebody else; and nobody has been given the access.",
		Mend:   "Write operators of the organisation, or of each function. For a company of one that is its owner, and a deputy.",
		Source: "ISO 22301:2019, 5.3, 8.4.2",
		check:  nobodyRecovers,
	},
	{
		ID: "deputy-without-contract", Title: "Somebody outside whom nothing obliges to come", Group: "governance", Severity: Warning,
		Why:    "Good will is not available on the day on which everybody calls the same contractor, and a contract is not made by somebody who is away.",
		Mend:   "Make a contract before it is needed, with hours and access, and write its reference and end.",
		Source: "ISO/IEC 27001:2022, A.5.20",
		check:  deputyWithoutContract,
	},
	{
		ID: "root-cause-unbounded", Title: "Restoring waits for a root cause", Group: "governance", Severity: Error,
		Why:    "Finding how an intruder came in takes hours or months, and sometimes never ends. While the restore waits for it, no recovery time holds.",
		Mend:   "Restore after containment, onto fresh nodes from a backup older than the intrusion, while the investigation goes on with the captured evidence; or bound it with root_cause_within.",
		Source: "ISO/IEC 27001:2022, A.5.26, A.5.29",
		check:  rootCauseUnbounded,
	},
	{
		ID: "dwell-exceeds-retention", Title: "Every backup may hold the intruder", Group: "governance", Severity: Error,
		Why:    "Intruders stay unseen for days to months before they act. If all backups are younger than that, there is no clean one to restore.",
		Mend:   "Keep some backups longer than dwell_time, such as a monthly one for a year, where nobody with the node's credentials can remove them.",
		Source: "ISO/IEC 27001:2022, A.8.13",
		check:  dwellExceedsRetention,
	},
	{
		ID: "claim-contradicts", Title: "One certificate is claimed in two ways", Group: "governance", Severity: Error,
		Why:   "A certificate that one document holds and another aims at is read as a false statement by whoever compares them, and insurers and clients do.",
		Mend:  "Claim it once, as it is today, and let every document refer to that claim.",
		check: claimContradicts,
	},
	{
		ID: "claim-without-end", Title: "A certificate that is held without an end", Group: "governance", Severity: Warning,
		Why:    "Certificates and insurance run out. A claim without a date goes on being made after it has become false.",
		Mend:   "Write until: the last day on which it is valid, as the certificate says.",
		Source: "ISO/IEC 27001:2022, A.5.31",
		check:  claimWithoutEnd,
	},
	{
		ID: "document-undated", Title: "A document of no date, owner or review", Group: "governance", Severity: Warning,
		Why:    "Nobody can tell whether it is the one in force, whom to ask, or whether it has been looked at since.",
		Mend:   "Write what is missing, on the document too: date and version, owner, review_every.",
		Source: "ISO 22301:2019, 7.5.2, 7.5.3; ISO/IEC 27001:2022, 7.5.2, 7.5.3",
		check:  documentUndated,
	},
	{
		ID: "function-without-runbook", Title: "A function that has no runbook", Group: "governance", Severity: Warning,
		Why:    "Only those who built it can then bring it back, and only while they are awake.",
		Mend:   "Write a runbook that somebody else can follow, and name the function in its for:.",
		Source: "ISO/IEC 27001:2022, A.5.37; ISO 22301:2019, 8.4.4",
		check:  functionWithoutRunbook,
	},
	{
		ID: "breach-notice-missing", Title: "Personal data, and no notice to the authority", Group: "governance", Severity: Warning,
		Why:    "The law asks for a notice within 72 hours of becoming aware of a breach; whoever first looks it up then has already lost a day.",
		Mend:   "Write a notice for the event personal-data-breach to the regulator, within 72h from awareness.",
		Source: "GDPR and UK GDPR, art. 33(1)",
		check:  breachNoticeMissing,
	},
	{
		ID: "breach-notice-late", Title: "A notice to the authority that comes too late", Group: "governance", Severity: Error,
		Why:    "The law counts 72 hours from the moment of becoming aware, weekends included. It waits neither for confirmation nor for the scope; what is not known yet may follow later.",
		Mend:   "Write within: 72h or less, and from: awareness.",
		Source: "GDPR and UK GDPR, art. 33(1), 33(4)",
		check:  breachNoticeLate,
	},
	{
		ID: "notice-content-missing", Title: "A notice of an incident that leaves out what it is for", Group: "governance", Severity: Warning,
		Why:    "A notice that does not say what happened, to which data, and what is done, has to be written twice, and the second one is late.",
		Mend:   "Write what it states: nature, data-affected, remediation; to an authority also a contact.",
		Source: "GDPR and UK GDPR, art. 33(3), 34(2)",
		check:  noticeContentMissing,
	},
}, accountRules, lapseRules)

func onePersonEveryRole(c *Context) {
	o := &c.Organisation
	only := func(names []string) bool {
		return len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return n != o.Owner })
	}
	if o.Owner == "" || !only(o.Operators) || len(o.Approvers) > 0 && !only(o.Approvers) {
		return
	}
	paths, others := []string{"organisation.owner", "organisation.operators"}, 0
	for i := range c.People {
		switch p := &c.People[i]; {
		case p.Name == o.Owner:
			paths = append(paths, at("people", i))
		case !p.Outside:
			others++
		}
	}
	where, approves := "organisation.approvers", "approves the plan"
	if len(o.Approvers) == 0 {
		where, approves = "organisation.owner", "has nobody to approve the plan"
	}
	f := c.Report(where, about("person", o.Owner), "Person %q alone operates the systems, owns the plan and %s.", o.Owner, approves).With(paths...)
	if others == 0 {
		f.As(Warning).Saying("A company of one cannot divide itself. It can name an approver from outside, such as an accountant, a lawyer or another director, and contract a deputy who operates: add them to people with outside: true.")
	}
}

func nobodyRecovers(c *Context) {
	var names, paths []string
	for i := range c.Functions {
		f := &c.Functions[i]
		if (f.RTO.Known() || f.MTD.Known()) && len(c.OperatorsOf(f)) == 0 {
			names, paths = append(names, f.Name), append(paths, at("functions", i))
		}
	}
	if len(names) > 0 {
		c.Report(paths[0], "the organisation", "Nobody is named who brings %s back.", these("function", "functions", names)).With(paths[1:]...)
	}
}

func deputyWithoutContract(c *Context) {
	var counted []string
	for i := range c.People {
		counted = append(counted, c.People[i].Deputies...)
	}
	counted = append(counted, c.Organisation.Operators...)
	for i := range c.Functions {
		counted = append(counted, c.Functions[i].Operators...)
	}
	for i := range c.People {
		p := &c.People[i]
		if p.Outside && slices.Contains(counted, p.Name) && p.Contract.Reference == "" && p.Contract.Until.IsZero() {
			c.Report(at("people", i), about("person", p.Name), "The plan counts on person %q, who is not of the organisation, and names no contract.", p.Name)
		}
	}
}

func functionWithoutRunbook(c *Context) {
	covered := map[string]bool{}
	for i := range c.Runbooks {
		for _, name := range c.Runbooks[i].For {
			covered[name] = true
			for _, f := range c.ofScenario(name) {
				covered[f] = true
			}
		}
	}
	for i := range c.Recovery {
		r := &c.Recovery[i]
		if slices.ContainsFunc(r.Steps, func(s plan.Step) bool { return s.Runbook != "" }) {
			for _, name := range r.Functions {
				covered[name] = true
			}
		}
	}
	var names, paths []string
	for i := range c.Functions {
		f := &c.Functions[i]
		if promised := f.IsCritical() || f.Critical == nil && f.RTO.Known(); promised && !covered[f.Name] {
			names, paths = append(names, f.Name), append(paths, at("functions", i))
		}
	}
	if len(names) > 0 {
		c.Report(paths[0], "runbooks", "No runbook says how to bring %s back.", these("function", "functions", names)).
			With(paths[1:]...)
	}
}

// ofScenario lists the functions that a scenario is about: those that it
// loses, that its recovery plans bring back, or that run on what it loses.
func (c *Context) ofScenario(name string) (out []string) {
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		if s.Name != name {
			continue
		}
		l := c.lostIn(s)
		for j := range c.Functions {
			f := &c.Functions[j]
			if slices.Contains(s.Loses, f.Name) || slices.ContainsFunc(f.Host, func(host string) bool { return l.nodes[host] }) {
				out = append(out, f.Name)
			}
		}
		for _, plan := range s.Recovery {
			if r := c.RecoveryPlan(plan); r != nil {
				out = append(out, r.Functions...)
			}
		}
	}
	return out
}

// breachNotices lists the notices that tell an authority of a breach.
func (c *Context) breachNotices() (out []int) {
	for i, n := range c.Notices {
		if n.To == "regulator" && (n.Event == "personal-data-breach" || n.Event == "security-incident") {
			out = append(out, i)
		}
	}
	return out
}

func breachNoticeMissing(c *Context) {
	i := slices.IndexFunc(c.Data, func(d plan.DataClass) bool { return d.Personal })
	if i < 0 || c.freeTransfers().Empty() || len(c.breachNotices()) > 0 {
		return
	}
	var names []string
	for _, d := range c.Data {
		if d.Personal {
			names = append(names, d.Name)
		}
	}
	c.Report(at("data", i), "notices", "The data of %s are personal, and no notice tells the authority of a breach of them.", these("class", "classes", names))
}

func breachNoticeLate(c *Context) {
	if c.freeTransfers().Empty() {
		return
	}
	for _, i := range c.breachNotices() {
		n := &c.Notices[i]
		late := n.Event == "personal-data-breach" && n.Within.Known() && n.Within.Longest() > threeDays
		waits := n.From == "confirmation" || n.From == "scope-known" || n.From == "containment"
		if late || n.Event == "personal-data-breach" && waits {
			c.Report(at("notices", i), about("notice", n.Name), "Notice %q tells the authority of a breach within %s; the law gives 72h from awareness.", n.Name, promised(n))
		}
	}
}
