package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

var recoveryTimeRules = []Rule{
	{
		ID: "rto-unreachable", Title: "The recovery takes longer than the RTO", Group: "arithmetic", Severity: Error,
		Why:    "Detecting, confirming, approving, providing a node, restoring, replaying, validating and waiting for DNS add up. The sum is what clients wait, whatever the objective says.",
		Mend:   "Shorten the longest step (a spare that runs, a replica, a lower DNS TTL, validation by probes), or state the RTO that the steps can keep. Measured steps count instead of assumed ones.",
		Source: "ISO 22301:2019, 8.3.3; BSI-Standard 200-4, Soll-Ist-Vergleich",
		check:  rtoUnreachable,
	},
	{
		ID: "rto-not-derivable", Title: "Nothing shows that the RTO can be kept", Group: "arithmetic", Severity: Warning,
		Why:    "An objective that is not the sum of anything is a wish. What was neither written down nor measured takes as long as it takes.",
		Mend:   "Give takes: to these steps, size: and dns_ttl: to the function, provisions_within: to the supplier, or measure them in an exercise.",
		Source: "ISO 22301:2019, 8.3.3, 8.5",
		check:  rtoNotDerivable,
	},
}

// recovery is how a function is brought back, by each of the plans for it.
type recovery struct {
	plan   *plan.RecoveryPlan
	e      plan.Estimate
	before time.Duration // that passes before the clock of the RTO starts
}

// over reports whether a total is more than the function's clocks allow.
func (r recovery) over(f *plan.Function, total time.Duration) bool {
	return total-r.before > f.RTO.Longest() || f.MTD.Known() && total > f.MTD.Longest()
}

// recoveriesOf lists the estimates of every recovery plan of a function that
// counts: it has an RTO, and neither a second host at another place nor a
// fallback keeps that already.
func (c *Context) recoveriesOf(f *plan.Function) (out []recovery) {
	if !f.RTO.Known() || len(f.Host) > 1 && !c.falls(f) || slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool {
		return c.carries(f, &fb) && (fb.State == "hot" && fb.Automatic || fb.Takes.Known() && fb.Takes.Longest() <= f.RTO.Longest())
	}) {
		return nil
	}
	for i := range c.Recovery {
		r := &c.Recovery[i]
		if slices.Contains(r.Functions, f.Name) {
			e := c.RecoveryTime(r, f, c.Measured)
			out = append(out, recovery{r, e, c.BeforeClock(r, e)})
		}
	}
	slices.SortFunc(out, func(a, b recovery) int {
		if x, y := c.afterIntruders(a.plan), c.afterIntruders(b.plan); x != y {
			return map[bool]int{true: 1, false: -1}[x] // the others are worse: nothing excuses them
		}
		return cmp.Or(cmp.Compare(b.e.Total-b.before, a.e.Total-a.before), strings.Compare(a.plan.Name, b.plan.Name))
	})
	return out
}

// falls reports whether the loss of a single node or site stops a function.
func (c *Context) falls(f *plan.Function) bool {
	for t := range c.ownFate(f) {
		if t.Kind == plan.KindNode || t.Kind == plan.KindSite {
			return true
		}
	}
	return false
}

func (c *Context) planPath(r *plan.RecoveryPlan) string {
	return at("recovery", slices.IndexFunc(c.Recovery, func(x plan.RecoveryPlan) bool { return x.Name == r.Name }))
}

// rtoUnreachable counts only what the plan or a measurement says: what has to
// be assumed for the sum to be too long is not derivable, and said there.
func rtoUnreachable(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		for _, r := range c.recoveriesOf(f) {
			if known := firm(r.e); !r.over(f, known) {
				continue
			}
			found := c.Report(at("functions", i, "rto"), about("function", f.Name), "Recovery plan %q brings %q back after %s (%s); its RTO is %s%s%s.",
				r.plan.Name, f.Name, plan.FormatDuration(r.e.Total), sum(r.e), f.RTO, ifKnown(", its MTD ", f.MTD), notCounted(r)).
				With(c.planPath(r.plan)).Assuming(r.e.Assumptions...)
			if c.afterIntruders(r.plan) && !(f.MTD.Known() && firm(r.e) > f.MTD.Longest()) {
				found.As(Warning).Saying("Traces are taken and causes found before anything is restored: say that the RTO does not hold after an intrusion, or keep a clean fallback that can serve meanwhile.")
			}
			break // the slowest plan says enough
		}
	}
}

// afterIntruders reports whether a recovery plan is only for security scenarios.
func (c *Context) afterIntruders(r *plan.RecoveryPlan) bool {
	for i := range c.Scenarios {
		if s := &c.Scenarios[i]; slices.Contains(s.Recovery, r.Name) && s.Kind != "security" {
			return false
		}
	}
	return hasStep(r, "capture", "investigate", "isolate")
}

func notCounted(r recovery) string {
	if r.before > 0 {
		return fmt.Sprintf(", of which %s pass before the clock of the RTO starts", plan.FormatDuration(r.before))
	}
	return ""
}

func rtoNotDerivable(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		for _, r := range c.recoveriesOf(f) {
			if r.e.Derived() {
				continue
			}
			than := ""
			if r.over(f, r.e.Total) {
				than = ", too long"
			}
			c.Report(at("functions", i, "rto"), about("function", f.Name), "Nothing shows that %q is back within %s: how long %s may take in recovery plan %q is neither said nor measured, and with what is assumed for it the whole takes %s%s.",
				f.Name, f.RTO, listed(unknown(r.e)), r.plan.Name, plan.FormatDuration(r.e.Total), than).
				With(c.planPath(r.plan)).Assuming(r.e.Assumptions...)
			break
		}
	}
}

// unknown names the terms that nothing gives, in the order they come.
func unknown(e plan.Estimate) (out []string) {
	for _, name := range e.Unknown {
		out = append(out, fmt.Sprintf("%q", name))
	}
	return out
}
