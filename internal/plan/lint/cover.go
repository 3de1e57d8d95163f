package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

const threeDays = 72 * time.Hour

// weekend is the longest time in which nobody answers who answers in office
// hours: from Friday at 17:00 to Monday at 9:00.
const weekend = 64 * time.Hour

// crew is who recovers some functions, and how soon they must.
type crew struct {
	operators []string
	functions []string
	tightest  int // position of the function with the shortest MTD
}

// crews groups the functions that have an MTD by who recovers them.
func (c *Context) crews() (out []*crew) {
	byNames := map[string]*crew{}
	for i := range c.Functions {
		f := &c.Functions[i]
		operators := slices.Compact(slices.Sorted(slices.Values(c.OperatorsOf(f))))
		if !f.MTD.Known() || len(operators) == 0 {
			continue
		}
		key := strings.Join(operators, "\x00")
		g := byNames[key]
		if g == nil {
			g = &crew{operators: operators, tightest: i}
			byNames[key] = g
			out = append(out, g)
		}
		g.functions = append(g.functions, f.Name)
		if t := &c.Functions[g.tightest]; f.MTD.Longest() < t.MTD.Longest() || f.MTD.Longest() == t.MTD.Longest() && f.Name < t.Name {
			g.tightest = i
		}
	}
	return out
}

func noCoverInsideMTD(c *Context) {
	for _, g := range c.crews() {
		f := &c.Functions[g.tightest]
		path := at("functions", g.tightest, "mtd")
		gap := c.gap(g.operators, f.MTD.Longest())
		if gap == nil {
			continue
		}
		finding := c.Report(path, these("person", "people", g.operators), "%s %s; %s, which %s, may be down for %s.",
			upper(these("person", "people", g.operators)), gap.why, about("function", f.Name), does(g.operators, "this person recovers", "they recover"), f.MTD).
			As(gap.severity).Assuming(gap.assumes...)
		for _, name := range g.operators {
			if i := slices.IndexFunc(c.People, func(p plan.Person) bool { return p.Name == name }); i >= 0 {
				finding.With(at("people", i))
			}
		}
	}
}

// gap is why nobody comes in time.
type gap struct {
	why      string
	severity Severity
	assumes  []string
}

// gap finds why nobody comes within the MTD when one of the operators is away.
// Of several operators of whom nothing is said it is assumed that they agree.
func (c *Context) gap(operators []string, mtd time.Duration) *gap {
	if len(operators) > 1 {
		if !slices.ContainsFunc(operators, func(name string) bool { p := c.Person(name); return p != nil && p.Reachable != "" }) {
			return nil
		}
		return c.answering(operators, mtd).after("share the work, and ")
	}
	p := c.Person(operators[0])
	if p == nil {
		return nil
	}
	deputies := slices.DeleteFunc(slices.Clone(p.Deputies), func(name string) bool {
		d := c.Person(name)
		return name == p.Name || d == nil || d.Credentials == "none"
	})
	if len(deputies) == 0 {
		return &gap{why: "has no deputy who could act", severity: Warning}
	}
	called, field := p.AwayAfter, "away_after"
	if !called.Known() {
		called, field = p.CheckIn, "check_in"
	}
	switch {
	case !called.Known():
		return &gap{why: fmt.Sprintf("has %s, and nothing says after which absence to call them (away_after)", these("deputy", "deputies", deputies)), severity: Warning}
	case called.Longest() >= mtd:
		return &gap{why: fmt.Sprintf("is replaced after an absence of %s (%s)", called, field), severity: Error}
	}
	return c.answering(deputies, mtd-called.Longest()).after("is replaced by " + these("deputy", "deputies", deputies) + ", and ")
}

// after puts words before the reason.
func (g *gap) after(words string) *gap {
	if g != nil {
		g.why = words + g.why
	}
	return g
}

// answering says why none of some people is sure to answer in time, or nil.
func (c *Context) answering(names []string, within time.Duration) *gap {
	says := map[string]bool{}
	for _, name := range names {
		if p := c.Person(name); p != nil {
			says[p.Reachable] = true
		}
	}
	switch {
	case says["always"], says["office-hours"] && within > weekend:
		return nil
	case says["office-hours"]:
		return &gap{
			why:      "nobody answers for up to " + plan.FormatDuration(weekend) + " over a weekend",
			severity: Warning,
			assumes:  []string{"office hours are Monday to Friday, 9:00 to 17:00"},
		}
	case says["best-effort"]:
		return &gap{why: "nobody is obliged to answer (reachable: best-effort)", severity: Warning}
	}
	return &gap{why: "nothing says when anybody answers (reachable)", severity: Warning}
}
