package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

var lapseRules = []Rule{
	{
		ID: "lapsed", Title: "Something has run out, or is overdue", Group: "governance", Severity: Error,
		Why:    "What has run out protects nobody, and what was not reviewed in time is a promise that was broken.",
		Mend:   "Renew it and write the new date; if it is not needed any more, take it out of the plan.",
		Source: "ISO 22301:2019, 9.1; ISO/IEC 27001:2022, A.5.31",
		check:  lapsed,
	},
	{
		ID: "lapsing", Title: "Something runs out soon", Group: "governance", Severity: Note,
		Why:   "Renewing takes weeks: an audit, a signature, a notice that must be given in time.",
		Mend:  "Begin to renew it now, and write the new date when it is done.",
		check: lapsing,
	},
	{
		ID: "suppression-expired", Title: "A finding is no longer accepted", Group: "governance", Severity: Warning,
		Why:   "Somebody accepted a risk until a day that has passed; what was to be done until then was not done, or the suppression was forgotten.",
		Mend:  "Mend the finding and remove the suppression, or accept it again with a new day and reason.",
		check: suppressionExpired,
	},
	{
		ID: "suppression-unused", Title: "A suppression that accepts nothing", Group: "governance", Severity: Warning,
		Why:   "It will hide the next finding of this kind, which nobody has looked at.",
		Mend:  "Remove it, or correct the rule's id or the name: foundry plan rules lists the rules.",
		check: suppressionUnused, // the last: it reads the findings of all others
	},
}

// soon is how long before its end something is said to lapse, where nothing
// says how long before it must be renewed.
const soon = 30 * 24 * time.Hour

// end is the last day of something, or the last on which something is due.
type end struct {
	what    string // a sentence's beginning
	subject string
	path    string
	until   time.Time // first instant after it
	notice  plan.Span // how long before it must be renewed
	review  bool      // something to do again, not something that ends
}

// ends lists every end that the plan knows.
func (c *Context) ends() []end {
	return slices.Concat(c.claimEnds(), c.contractEnds(), c.reviewEnds())
}

func (c *Context) claimEnds() (out []end) {
	for i, m := range c.Claims {
		if m.Status == "held" && !m.Until.IsZero() {
			out = append(out, end{fmt.Sprintf("%q, claimed in %q,", m.Standard, m.Name), about("claim", m.Name), at("claims", i, "until"), m.Until.End(), plan.Span{}, false})
		}
	}
	for i, f := range c.Functions {
		if k := f.Certificate; k != nil && !k.Until.IsZero() {
			out = append(out, end{fmt.Sprintf("The certificate of function %q", f.Name), about("function", f.Name), at("functions", i, "certificate.until"), k.Until.End(), plan.Span{}, false})
		}
	}
	return out
}

func (c *Context) contractEnds() (out []end) {
	add := func(k plan.Contract, kind, name, path string) {
		if !k.Until.IsZero() {
			out = append(out, end{fmt.Sprintf("The contract of %s %q", kind, name), about(kind, name), path + ".until", k.Until.End(), k.Notice, false})
		}
	}
	for i, p := range c.People {
		add(p.Contract, "person", p.Name, at("people", i, "contract"))
	}
	for i, s := range c.Suppliers {
		add(s.Contract, "supplier", s.Name, at("suppliers", i, "contract"))
	}
	for i, n := range c.Nodes {
		add(n.Contract, "node", n.Name, at("nodes", i, "contract"))
	}
	for i, k := range c.Clients {
		add(k.Agreement, "client", k.Name, at("clients", i, "agreement"))
	}
	return out
}

func (c *Context) reviewEnds() (out []end) {
	add := func(last plan.Date, every plan.Span, what, subject, path string) {
		if !last.IsZero() && every.Known() {
			out = append(out, end{fmt.Sprintf("%s, due %s,", what, every), subject, path, last.End().Add(every.Longest()), plan.Span{}, true})
		}
	}
	for i, d := range c.Documents {
		add(d.Reviewed, d.ReviewEvery, fmt.Sprintf("The review of document %q", d.Name), about("document", d.Name), at("documents", i, "reviewed"))
	}
	for i, s := range c.Suppliers {
		add(s.Reviewed, s.ReviewEvery, fmt.Sprintf("The review of supplier %q", s.Name), about("supplier", s.Name), at("suppliers", i, "reviewed"))
	}
	for i, r := range c.Runbooks {
		add(r.Reviewed, r.ReviewEvery, fmt.Sprintf("The review of runbook %q", r.Name), about("runbook", r.Name), at("runbooks", i, "reviewed"))
	}
	for i, b := range c.Backups {
		add(b.Tested, b.TestEvery, fmt.Sprintf("The test of backup %q", b.Name), about("backup", b.Name), at("backups", i, "tested"))
	}
	for i, d := range c.Duties {
		add(d.Last, d.Every, fmt.Sprintf("Duty %q", d.Name), about("duty", d.Name), at("duties", i, "last"))
	}
	for i, p := range c.People {
		add(p.Briefed, c.briefing(p.Name), fmt.Sprintf("The briefing of person %q", p.Name), about("person", p.Name), at("people", i, "briefed"))
	}
	return out
}

// briefing is how often a person practises the part: the shortest period of
// the reviews of contacts that are about this person.
func (c *Context) briefing(person string) (every plan.Span) {
	for _, d := range c.Duties {
		if d.Kind == "contact-review" && d.Every.Known() && (len(d.Of) == 0 || slices.Contains(d.Of, person)) && (every.IsZero() || d.Every.Longest() < every.Longest()) {
			every = d.Every
		}
	}
	return every
}

// last is the last day of an end.
func (e end) last() string { return e.until.Add(-time.Second).Format(time.DateOnly) }

func lapsed(c *Context) {
	if c.Now.IsZero() {
		return
	}
	for _, e := range c.ends() {
		switch {
		case c.Now.Before(e.until):
		case e.review:
			c.Report(e.path, e.subject, "%s should have been done by %s.", e.what, e.last()).
				Saying("Do it, and write the day.").As(Warning)
		default:
			c.Report(e.path, e.subject, "%s ended on %s.", e.what, e.last())
		}
	}
}

func lapsing(c *Context) {
	if c.Now.IsZero() {
		return
	}
	for _, e := range c.ends() {
		lead := soon
		if e.notice.Known() {
			lead = e.notice.Longest()
		}
		if e.review || !c.Now.Before(e.until) || c.Now.Add(lead).Before(e.until) {
			continue
		}
		if e.notice.Known() {
			c.Report(e.path, e.subject, "%s ends on %s, and %s notice is asked for: that day has come.", e.what, e.last(), e.notice).As(Warning)
			continue
		}
		c.Report(e.path, e.subject, "%s ends on %s.", e.what, e.last()).Assuming("what runs out within " + plan.FormatDuration(soon) + " runs out soon")
	}
}

func suppressionExpired(c *Context) {
	for i := range c.Suppress {
		s := &c.Suppress[i]
		if !c.Now.IsZero() && !c.Now.Before(s.Until.End()) {
			c.Report(at("suppress", i, "until"), suppressed(s), "%q accepted %s until %s: %s.", s.By, suppressed(s), s.Until.Format(time.DateOnly), strings.TrimSuffix(s.Reason, "."))
		}
	}
}

// suppressed names what a suppression is about.
func suppressed(s *plan.Suppression) string {
	if s.At == "" {
		return fmt.Sprintf("findings of rule %q", s.Rule)
	}
	return fmt.Sprintf("findings of rule %q about %q", s.Rule, s.At)
}

func suppressionUnused(c *Context) {
	for i := range c.Suppress {
		s := &c.Suppress[i]
		if !c.Now.IsZero() && !c.Now.Before(s.Until.End()) {
			continue
		}
		if c.Now.IsZero() && slices.Contains([]string{"lapsed", "lapsing", "suppression-expired"}, s.Rule) {
			continue // not judged today
		}
		if slices.ContainsFunc(c.findings, func(f Finding) bool {
			return s.Rule == f.Rule && (s.At == "" || strings.Contains(f.Subject, fmt.Sprintf("%q", s.At)))
		}) {
			continue
		}
		c.Report(at("suppress", i), suppressed(s), "There are no %s, which the plan accepts.", suppressed(s))
	}
}
