package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// arithmeticRules judge the plan's numbers: those that contradict each other,
// and those that nothing can reach.
var arithmeticRules = slices.Concat(clockSums, promiseRules, recoveryTimeRules)

var clockSums = []Rule{
	{
		ID: "rpo-unreachable", Title: "Backups are too rare for the RPO", Group: "arithmetic", Severity: Error,
		Why:    "A backup is not there when it begins but when it has arrived, and the newest may have failed unseen. What was written since the last good one is lost, however often one meant to copy it.",
		Mend:   "Back up more often, ship the log continuously, or state the RPO that the backups can keep.",
		Source: "NIST SP 800-34 r1, 3.2.1, 3.4.2",
		check:  rpoUnreachable,
	},
	{
		ID: "rto-exceeds-mtd", Title: "The RTO is longer than the maximum tolerable downtime", Group: "arithmetic", Severity: Error,
		Why:    "A recovery that is in time by its objective comes after the harm that it should have prevented.",
		Mend:   "Lower the RTO below the MTD, or ask those who bear the harm whether the MTD can be longer.",
		Source: "ISO 22301:2019, 8.2.2; NIST SP 800-34 r1, 3.2.1",
		check:  rtoExceedsMTD,
	},
	{
		ID: "no-margin-to-mtd", Title: "No margin between the objective and the maximum tolerable downtime", Group: "arithmetic", Severity: Warning,
		Why:    "Everything has to go right for the harm to be avoided: one step that takes longer than planned, and the downtime that cannot be tolerated is there.",
		Mend:   "Leave at least a tenth of the MTD between the two: shorten the objective, or have the MTD confirmed to be longer.",
		Source: "NIST SP 800-34 r1, 3.2.1",
		check:  noMargin,
	},
	{
		ID: "rto-spends-anothers-mtd", Title: "One person recovers functions whose clocks exclude each other", Group: "arithmetic", Severity: Warning,
		Why:    "Somebody who has begun to recover one function when another fails, or when both failed at once, may be in time for the one and still let the other pass its maximum tolerable downtime.",
		Mend:   "Name a second person who can recover one of them, or write one recovery plan that says which goes first.",
		Source: "ISO 22301:2019, 8.3.4",
		check:  rtoSpendsAnothersMTD,
	},
	{
		ID: "function-without-rpo", Title: "Nothing says how much data may be lost", Group: "arithmetic", Severity: Warning,
		Why:    "Without an RPO nobody can say whether the backups are often enough; what is found lost after an incident is then too much for somebody.",
		Mend:   "Add rpo: to the function: the longest stretch of work that people could do again. Write 0s where nothing may be lost.",
		Source: "NIST SP 800-34 r1, 3.2.1",
		check:  functionWithoutRPO,
	},
	{
		ID: "function-without-mtd", Title: "Nothing says how long a critical function may be down", Group: "arithmetic", Severity: Warning,
		Why:    "The MTD is what every other clock is derived from; an RTO without one is a guess.",
		Mend:   "Add mtd: to the function: the downtime after which the harm is no longer acceptable.",
		Source: "ISO 22301:2019, 8.2.2",
		check:  functionWithoutMTD,
	},
	{
		ID: "function-without-rto", Title: "A maximum tolerable downtime without an RTO", Group: "arithmetic", Severity: Warning,
		Why:    "The MTD says when it is too late; without an RTO nobody is told to be earlier, and no resources are chosen for it.",
		Mend:   "Add rto: to the function, well below its mtd.",
		Source: "ISO 22301:2019, 8.2.2",
		check:  functionWithoutRTO,
	},
}

func rpoUnreachable(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		b, worst := c.worstLoss(f)
		if b == nil {
			continue
		}
		if f.RPO.Known() && worst.Total > f.RPO.Longest() {
			found := c.Report(at("functions", i, "rpo"), about("function", f.Name), "With backup %q, up to %s of %q can be lost (%s); its RPO is %s.",
				b.Name, plan.FormatDuration(worst.Total), f.Name, sum(worst), f.RPO).With(c.intervalPath(b)).Assuming(worst.Assumptions...)
			c.gradeLoss(found, f, b, worst, f.RPO)
		}
	}
	for i := range c.Commitments {
		if promise := &c.Commitments[i]; promise.Subject == "function.rpo" {
			c.promisedRPO(i, promise)
		}
	}
}

// promisedRPO compares a promise with the backups of the functions that state
// no RPO of their own; the worst of them is told.
func (c *Context) promisedRPO(i int, promise *plan.Commitment) {
	bound, err := plan.ParseSpan(string(cmp.Or(promise.AtMost, promise.Equals)))
	if err != nil || !bound.Known() {
		return
	}
	var worst plan.Estimate
	var which *plan.Function
	var with *plan.Backup
	var paths []string
	byName(c.Functions, functionName, func(_ int, f *plan.Function) {
		if f.RPO.Known() || len(promise.Of) > 0 && !slices.Contains(promise.Of, f.Name) {
			return
		}
		b, e := c.worstLoss(f)
		if b == nil || e.Total <= bound.Longest() {
			return
		}
		if path := c.intervalPath(b); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
		if which == nil || e.Total > worst.Total {
			which, with, worst = f, b, e
		}
	})
	if which == nil {
		return
	}
	slices.Sort(paths)
	found := c.Report(boundPath(i, promise), about("commitment", promise.Name), "%q promises that %s of data are lost at most; with backup %q up to %s of %q can be lost (%s).",
		promise.Name, bound, with.Name, plan.FormatDuration(worst.Total), which.Name, sum(worst)).With(paths...).Assuming(worst.Assumptions...)
	c.gradeLoss(found, which, with, worst, bound)
}

// gradeLoss makes a loss that is only possible, or that a replica makes
// smaller, a warning.
func (c *Context) gradeLoss(found *Finding, f *plan.Function, b *plan.Backup, worst plan.Estimate, bound plan.Span) {
	switch {
	case len(f.Host) > 1 || hasReplica(f):
		found.As(Warning).Saying("A replica loses less when a node does, and nothing less when data are deleted, corrupted or encrypted: ship the log of %q continuously, or back up more often.", b.Name)
	case b.Continuous.Known() || firmWithout(worst, "failed run") >= bound.Longest():
		// An interval that spends the whole bound leaves no time for any run.
	default:
		found.As(Warning)
	}
}

func (c *Context) intervalPath(b *plan.Backup) string {
	field := "every"
	if b.Continuous.Known() {
		field = "continuous"
	}
	return at("backups", slices.IndexFunc(c.Backups, func(x plan.Backup) bool { return x.Name == b.Name }), field)
}

func hasReplica(f *plan.Function) bool {
	return slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool { return fb.Data == "replica" })
}

// worstLoss is how much of a function's data can be lost: of each class, with
// the best of its backups; of all classes, the worst. Classes without any
// backup are another rule's.
func (c *Context) worstLoss(f *plan.Function) (worst *plan.Backup, loss plan.Estimate) {
	classes := f.Data
	if len(classes) == 0 {
		classes = []string{""}
	}
	for _, class := range classes {
		var best *plan.Backup
		var least plan.Estimate
		for _, b := range c.BackupsOf(f) {
			if class != "" && !slices.Contains(b.Functions, f.Name) && !slices.Contains(b.Data, class) {
				continue
			}
			if e := b.WorstLoss(c.Measured); best == nil || e.Total < least.Total || e.Total == least.Total && b.Name < best.Name {
				best, least = b, e
			}
		}
		if best != nil && (worst == nil || least.Total > loss.Total || least.Total == loss.Total && best.Name < worst.Name) {
			worst, loss = best, least
		}
	}
	return worst, loss
}

func firmWithout(e plan.Estimate, part string) (total time.Duration) {
	for _, p := range e.Parts {
		if p.From != "assumed" && p.Name != part {
			total += p.Takes
		}
	}
	return total
}

func rtoExceedsMTD(c *Context) {
	for i, f := range c.Functions {
		if f.RTO.Known() && f.MTD.Known() && f.RTO.Longest() > f.MTD.Longest() {
			c.Report(at("functions", i, "rto"), about("function", f.Name), "%q may take %s to recover (RTO), and more than %s of downtime cannot be tolerated (MTD).", f.Name, f.RTO, f.MTD).
				With(at("functions", i, "mtd"))
		}
	}
}

// slim reports whether an objective is within the maximum, with less than a
// tenth of it to spare.
func slim(objective, most plan.Span) bool {
	return objective.Known() && most.Known() && objective.Longest() <= most.Longest() && objective.Longest() > most.Longest()/10*9
}

func noMargin(c *Context) {
	for i, f := range c.Functions {
		if slim(f.RTO, f.MTD) {
			c.Report(at("functions", i, "rto"), about("function", f.Name), "%q may take %s to recover (RTO) of %s that it may be down at most (MTD): %s remains.",
				f.Name, f.RTO, f.MTD, margin(f.RTO, f.MTD)).With(at("functions", i, "mtd"))
		}
	}
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		if !s.RestoreWithin.Known() {
			continue
		}
		var names, paths []string
		over := false
		for _, j := range c.hit(s) {
			f := &c.Functions[j]
			late := f.MTD.Known() && !f.RTO.Known() && s.RestoreWithin.Longest() > f.MTD.Longest()
			if late || slim(s.RestoreWithin, f.MTD) {
				names, paths, over = append(names, fmt.Sprintf("%q (%s)", f.Name, f.MTD)), append(paths, at("functions", j, "mtd")), over || late
			}
		}
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		found := c.Report(at("scenarios", i, "restore_within"), about("scenario", s.Name), "After %q everything is back within %s; that leaves no margin to the maximum tolerable downtime of %s.", s.Name, s.RestoreWithin, listed(names)).With(paths...)
		if over {
			found.As(Error)
		}
	}
}

func margin(objective, most plan.Span) string {
	if d := most.Longest() - objective.Longest(); d > 0 {
		return plan.FormatDuration(d)
	}
	return "nothing"
}

// hit lists the functions that a scenario stops and nothing carries, and those
// that its recovery plans bring back, by their positions.
func (c *Context) hit(s *plan.Scenario) (out []int) {
	_, stops := c.lose(s.Loses)
	restored := map[string]bool{}
	for _, name := range s.Recovery {
		if r := c.RecoveryPlan(name); r != nil {
			for _, f := range r.Functions {
				restored[f] = true
			}
		}
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		carried := slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool { return c.carries(f, &fb) })
		if stops(f) || restored[f.Name] && !carried {
			out = append(out, i)
		}
	}
	return out
}

// rtoSpendsAnothersMTD looks, for each person who alone recovers several
// critical functions, for the tightest clock that another's recovery spends.
func rtoSpendsAnothersMTD(c *Context) {
	alone := map[string][]int{}
	for i := range c.Functions {
		f := &c.Functions[i]
		if people := slices.Compact(slices.Sorted(slices.Values(c.OperatorsOf(f)))); len(people) == 1 && f.IsCritical() {
			alone[people[0]] = append(alone[people[0]], i)
		}
	}
	byName(c.People, func(p *plan.Person) string { return p.Name }, func(i int, person *plan.Person) {
		tightest, spent, paths := -1, []string(nil), []string(nil)
		for _, j := range alone[person.Name] {
			f := &c.Functions[j]
			if !f.MTD.Known() || tightest >= 0 && !tighter(f, &c.Functions[tightest]) {
				continue
			}
			var by, at []string
			for _, k := range alone[person.Name] {
				if g := &c.Functions[k]; k != j && g.RTO.Known() && g.RTO.Longest() >= f.MTD.Longest() && !c.goesFirst(f.Name, g.Name) && !slices.Contains(g.Needs, f.Name) {
					by, at = append(by, fmt.Sprintf("%q (%s)", g.Name, g.RTO)), append(at, fmt.Sprintf("functions[%d].rto", k))
				}
			}
			if len(by) > 0 {
				tightest, spent, paths = j, by, at
			}
		}
		if tightest < 0 {
			return
		}
		slices.Sort(spent)
		f := &c.Functions[tightest]
		c.Report(at("functions", tightest, "mtd"), about("person", person.Name), "%q alone recovers %q, which may be down for %s at most, and may by its RTO spend as long on %s.", person.Name, f.Name, f.MTD, listed(spent)).
			With(at("people", i)).With(paths...)
	})
}

// goesFirst reports whether a recovery plan of both has a step of its own for
// the first before any that names the second.
func (c *Context) goesFirst(first, second string) bool {
	return slices.ContainsFunc(c.Recovery, func(r plan.RecoveryPlan) bool {
		if !slices.Contains(r.Functions, first) || !slices.Contains(r.Functions, second) {
			return false
		}
		for _, s := range r.Steps {
			has, other := slices.Contains(s.Functions, first), slices.Contains(s.Functions, second)
			if has || other {
				return has && !other
			}
		}
		return false
	})
}

func tighter(a, b *plan.Function) bool {
	return a.MTD.Longest() < b.MTD.Longest() || a.MTD.Longest() == b.MTD.Longest() && a.Name < b.Name
}

func functionWithoutRPO(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		if f.RPO.Known() || slices.Contains(passing, f.Kind) || len(f.Data) > 0 && !c.stateful(f) {
			continue // it keeps nothing, or what can be made again
		}
		keeps := c.stateful(f)
		if !keeps && !f.IsCritical() {
			continue
		}
		message := fmt.Sprintf("The plan does not say how much of the latest data of %q may be lost.", f.Name)
		if word := f.RPO.Vague(); word != "" {
			message = fmt.Sprintf("The RPO of %q is %q, which bounds nothing.", f.Name, word)
		}
		found := c.Report(at("functions", i, "rpo"), about("function", f.Name), "%s", message)
		if keeps && f.IsCritical() {
			found.As(Error)
		}
	}
}

func functionWithoutMTD(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		if critical := f.Critical != nil && *f.Critical; !f.MTD.Known() && (critical || f.RTO.Known() && f.Critical == nil) {
			c.Report(at("functions", i, "mtd"), about("function", f.Name), "The plan does not say how long %q may be down at most%s.", f.Name, ifKnown(", only that its RTO is ", f.RTO))
		}
	}
}

func functionWithoutRTO(c *Context) {
	for i := range c.Functions {
		if f := &c.Functions[i]; f.MTD.Known() && !f.RTO.Known() {
			c.Report(at("functions", i, "rto"), about("function", f.Name), "%q may be down for %s at most, and the plan does not say by when it should be back.", f.Name, f.MTD)
		}
	}
}

func ifKnown(before string, s plan.Span) string {
	if !s.Known() {
		return ""
	}
	return before + strings.TrimSpace(s.String())
}
