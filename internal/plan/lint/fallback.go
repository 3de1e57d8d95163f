package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// fallbackRules judge what carries a function when its own place is lost, and
// where the copies of its data lie.
var fallbackRules = slices.Concat([]Rule{
	{
		ID: "function-uncovered", Title: "Nothing brings a critical function back", Group: "fallbacks", Severity: Error,
		Why:    "Its clocks run from the first minute, and the plan has nothing to do in any of them.",
		Mend:   "Write a recovery plan for the loss of where it runs, and a scenario that uses it; or give it a second host or a fallback.",
		Source: "ISO 22301:2019, 8.3.3, 8.4.4",
		check:  functionUncovered,
	},
	{
		ID: "fallback-contradicts-node", Title: "A node for what is not critical is to carry what is", Group: "fallbacks", Severity: Error,
		Why:    "One part of the plan counts on a node that another part keeps free of critical work: it has neither the size nor the care for it.",
		Mend:   "Let the node serve critical functions (serves: any) and size it for them, or name another fallback.",
		Source: "ISO 22301:2019, 8.3.4",
		check:  fallbackContradictsNode,
	},
	{
		ID: "fallback-other-stack", Title: "The fallback runs services in another way", Group: "fallbacks", Severity: Warning,
		Why:    "What is deployed, configured and patched in two ways differs when it counts: the fallback is another product, and the night is its first test.",
		Mend:   "Run both on one stack, or rehearse the change-over at least once a year (rehearsed:).",
		Source: "NIST SP 800-34 r1, 3.4.3, 3.5.1",
		check:  fallbackOtherStack,
	},
	{
		ID: "fallback-without-data", Title: "The fallback has no data", Group: "fallbacks", Severity: Error,
		Why:    "The service answers and knows nothing: clients find their work gone, or write to a second copy that nobody merges.",
		Mend:   "Keep a replica there (data: replica, lag:), or say that it is restored there first (data: backup) and how long that takes.",
		Source: "ISO 22301:2019, 8.3.4",
		check:  fallbackWithoutData,
	},
	{
		ID: "fallback-beside-host", Title: "The fallback is where the function already runs", Group: "fallbacks", Severity: Error,
		Why:    "What takes the one takes the other.",
		Mend:   "Name another node, at best at another site and with another supplier.",
		Source: "NIST SP 800-34 r1, 3.4.3",
		check:  fallbackBesideHost,
	},
	{
		ID: "fallback-slower-than-rto", Title: "Every fallback takes longer than the RTO", Group: "fallbacks", Severity: Error,
		Why:    "The change-over itself spends the time in which the function should be back.",
		Mend:   "Keep one fallback warm or hot, or state the RTO that the change-over can keep.",
		Source: "ISO 22301:2019, 8.3.3",
		check:  fallbackSlower,
	},
	{
		ID: "replica-behind-rpo", Title: "A replica may be further behind than the RPO", Group: "fallbacks", Severity: Error,
		Why:    "What the replica has not yet received when the primary is lost is lost with it.",
		Mend:   "Replicate synchronously or bound the lag below the RPO, or state the RPO that the replica can keep.",
		Source: "NIST SP 800-34 r1, 3.4.2",
		check:  replicaBehind,
	},
	{
		ID: "cold-provisioning-unguaranteed", Title: "The recovery counts on a node that nobody has promised", Group: "fallbacks", Severity: Warning,
		Why:    "Suppliers run out of machines, and on the day of a large outage all of their clients order at once. Without an undertaking the step has no upper bound.",
		Mend:   "Keep a spare (spare: true), reserve capacity with the supplier (provisions_within:), or prepare the same with a second supplier.",
		Source: "NIST SP 800-34 r1, 3.4.3, 3.4.4; ISO 22301:2019, 8.3.4",
		check:  coldProvisioning,
	},
	{
		ID: "fallback-not-rehearsed", Title: "Nobody has tried the fallback", Group: "fallbacks", Severity: Warning,
		Why:    "A fallback that was never taken fails on what nobody thought of: a missing secret, a full disk, a name that leads elsewhere. After a year it is another system than the one that was tried.",
		Mend:   "Change over to it once a year, write down how long it took (takes:) and when (rehearsed:).",
		Source: "ISO 22301:2019, 8.5; NIST SP 800-34 r1, 3.5",
		check:  fallbackNotRehearsed,
	},
}, placeRules, copyRules)

// carrying are the kinds of steps that put work on a node.
var carrying = []string{"decide", "promote", "restore", "rebuild", "start", "switch"}

func fallbackContradictsNode(c *Context) {
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if n.Serves != "non-critical" {
			continue
		}
		var words, paths []string
		severity := Warning
		for j := range c.Functions {
			f := &c.Functions[j]
			if !f.IsCritical() {
				continue
			}
			if slices.Contains(f.Host, n.Name) {
				words, paths, severity = append(words, fmt.Sprintf("%q runs there", f.Name)), append(paths, at("functions", j, "host")), Error
			}
			for k, fb := range f.Fallbacks {
				switch {
				case fb.Node != n.Name:
				case fb.Serves != "non-critical":
					words, paths, severity = append(words, fmt.Sprintf("%q falls back to it", f.Name)), append(paths, fmt.Sprintf("functions[%d].fallbacks[%d]", j, k)), Error
				case !slices.ContainsFunc(f.Fallbacks, func(other plan.Fallback) bool { return other.Serves != "non-critical" }):
					words, paths = append(words, fmt.Sprintf("%q has no other fallback", f.Name)), append(paths, fmt.Sprintf("functions[%d].fallbacks[%d]", j, k))
				}
			}
		}
		for j := range c.Recovery {
			r := &c.Recovery[j]
			for k := range r.Steps {
				s := &r.Steps[k]
				if !slices.Contains(carrying, s.Kind) || s.Node != n.Name && (s.Node != "" || !slices.Contains(r.Onto, n.Name)) {
					continue
				}
				if critical := c.critical(coalesce(s.Functions, r.Functions)); len(critical) > 0 {
					words = append(words, fmt.Sprintf("step %q of recovery plan %q counts on it for %s", s.Name, r.Name, quoted(critical)))
					paths, severity = append(paths, fmt.Sprintf("recovery[%d].steps[%d]", j, k)), Error
				}
			}
		}
		if len(words) == 0 {
			continue
		}
		slices.Sort(words)
		c.Report(at("nodes", i, "serves"), about("node", n.Name), "Node %q serves what is not critical, but %s.", n.Name, listed(words)).With(paths...).As(severity)
	}
}

func (c *Context) critical(names []string) (out []string) {
	for _, name := range names {
		if f := c.Function(name); f != nil && f.IsCritical() {
			out = append(out, name)
		}
	}
	return out
}

// eachFallback visits the fallbacks of every function.
func (c *Context) eachFallback(visit func(f *plan.Function, fb *plan.Fallback, i int, path string)) {
	for i := range c.Functions {
		f := &c.Functions[i]
		for k := range f.Fallbacks {
			visit(f, &f.Fallbacks[k], i, fmt.Sprintf("functions[%d].fallbacks[%d]", i, k))
		}
	}
}

// toward names where a fallback goes.
func toward(fb *plan.Fallback) string {
	if fb.Node != "" {
		return fmt.Sprintf("node %q", fb.Node)
	}
	return fmt.Sprintf("supplier %q", fb.Supplier)
}

// fallbackOf is the subject of a finding about a fallback.
func fallbackOf(f *plan.Function, fb *plan.Fallback) string {
	return fmt.Sprintf("fallback of function %q to %s", f.Name, toward(fb))
}

func fallbackOtherStack(c *Context) {
	c.eachFallback(func(f *plan.Function, fb *plan.Fallback, _ int, path string) {
		to := c.Node(fb.Node)
		if to == nil || to.Stack == "" || c.rehearsedSince(fb.Rehearsed) {
			return
		}
		for _, host := range slices.Sorted(slices.Values(f.Host)) {
			n := c.Node(host)
			if n == nil || n.Stack == "" || strings.EqualFold(n.Stack, to.Stack) {
				continue
			}
			c.Report(path, fallbackOf(f, fb), "%q runs on %q with %s; its fallback %q has %s.", f.Name, n.Name, n.Stack, to.Name, to.Stack).
				With(c.nodePath(n.Name)+".stack", c.nodePath(to.Name)+".stack")
			return
		}
	})
}

func (c *Context) nodePath(name string) string {
	return at("nodes", slices.IndexFunc(c.Nodes, func(n plan.Node) bool { return n.Name == name }))
}

// rehearsedSince reports whether a rehearsal is at most a year old.
func (c *Context) rehearsedSince(d plan.Date) bool {
	return !d.IsZero() && !c.Now.After(d.End().AddDate(1, 0, 0))
}

func fallbackNotRehearsed(c *Context) {
	c.eachFallback(func(f *plan.Function, fb *plan.Fallback, _ int, path string) {
		switch {
		case !f.IsCritical() || c.rehearsedSince(fb.Rehearsed):
		case fb.Rehearsed.IsZero():
			c.Report(path, fallbackOf(f, fb), "Nothing says that %q was ever served by %s.", f.Name, toward(fb))
		default:
			c.Report(path+".rehearsed", fallbackOf(f, fb), "%q was last served by %s on %s, more than a year ago.", f.Name, toward(fb), fb.Rehearsed.Format("2006-01-02"))
		}
	})
}

func fallbackWithoutData(c *Context) {
	c.eachFallback(func(f *plan.Function, fb *plan.Fallback, _ int, path string) {
		if !c.stateful(f) || fb.Data == "replica" || fb.Data == "backup" {
			return
		}
		if fb.Data == "none" {
			found := c.Report(path, fallbackOf(f, fb), "%q keeps data, and its fallback to %s has none of them.", f.Name, toward(fb))
			if fb.Serves == "non-critical" {
				found.As(Warning)
			}
			return
		}
		c.Report(path, fallbackOf(f, fb), "%q keeps data, and nothing says where its fallback to %s has them from.", f.Name, toward(fb)).As(Warning)
	})
}

func fallbackBesideHost(c *Context) {
	c.eachFallback(func(f *plan.Function, fb *plan.Fallback, i int, path string) {
		if fb.Node != "" && slices.Contains(f.Host, fb.Node) {
			c.Report(path, fallbackOf(f, fb), "%q runs on %q already, which is named as its fallback.", f.Name, fb.Node).With(at("functions", i, "host"))
		}
	})
}

func fallbackSlower(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		if !f.RTO.Known() || len(f.Fallbacks) == 0 || len(f.Host) > 1 {
			continue
		}
		var words []string
		for _, fb := range f.Fallbacks {
			if fb.Takes.Known() && fb.Takes.Longest() > f.RTO.Longest() {
				words = append(words, fmt.Sprintf("%s takes %s", toward(&fb), fb.Takes))
			}
		}
		inTime := slices.ContainsFunc(c.recoveriesOf(f), func(r recovery) bool { return !r.over(f, r.e.Total) })
		if len(words) < len(f.Fallbacks) || inTime {
			continue
		}
		c.Report(at("functions", i, "fallbacks"), about("function", f.Name), "%q is to be back within %s; its fallback to %s.", f.Name, f.RTO, listed(words)).With(at("functions", i, "rto"))
	}
}

func replicaBehind(c *Context) {
	c.eachFallback(func(f *plan.Function, fb *plan.Fallback, i int, path string) {
		if fb.Data == "replica" && fb.Lag.Known() && f.RPO.Known() && fb.Lag.Longest() > f.RPO.Longest() {
			c.Report(path+".lag", fallbackOf(f, fb), "The replica of %q on %s may be %s behind; its RPO is %s.", f.Name, toward(fb), fb.Lag, f.RPO).With(at("functions", i, "rpo"))
		}
	})
}

// takingNodes are the kinds of scenarios after which a node is gone.
var takingNodes = []string{"node-loss", "site-loss", "supplier-loss", "premises"}

func coldProvisioning(c *Context) {
	c.coldFallbacks()
	uses := c.lossesOf()
	for i := range c.Recovery {
		r := &c.Recovery[i]
		f := c.tightestOf(r.Functions)
		if f == nil {
			continue
		}
		provides := false
		for k := range r.Steps {
			s := &r.Steps[k]
			if s.Kind != "provision" {
				continue
			}
			provides = true
			_, measured := c.Measured.Steps[r.Name+"/"+s.Name]
			if n := c.Node(s.Node); n != nil && n.Spare || measured || c.undertaken(s, r) {
				continue
			}
			whom := "whoever provides it"
			if s.Supplier != "" {
				whom = fmt.Sprintf("supplier %q", s.Supplier)
			}
			c.Report(fmt.Sprintf("recovery[%d].steps[%d]", i, k), about("recovery plan", r.Name), "Step %q of recovery plan %q waits for a node that %s has not undertaken to deliver in any time; %q is to be back within %s.", s.Name, r.Name, whom, f.Name, f.RTO).
				With(c.functionPath(f) + ".rto")
		}
		takes := slices.ContainsFunc(uses.of[r.Name], func(s *plan.Scenario) bool { return slices.Contains(takingNodes, s.Kind) })
		if provides || len(r.Onto) > 0 || !takes || !hasStep(r, "restore", "rebuild") || len(f.Host) == 0 {
			continue
		}
		c.Report(at("recovery", i), about("recovery plan", r.Name), "Recovery plan %q restores after a loss of nodes and says neither onto which node nor who provides one; %q is to be back within %s.", r.Name, f.Name, f.RTO).
			With(c.functionPath(f) + ".rto").Saying("Name the node (onto:), or add a step of kind provision with a supplier that has undertaken it (provisions_within:).")
	}
}

// coldFallbacks are those that have to be built first, with nobody bound to
// deliver what they are built on.
func (c *Context) coldFallbacks() {
	c.eachFallback(func(f *plan.Function, fb *plan.Fallback, i int, path string) {
		if fb.State != "cold" || !f.RTO.Known() || c.rehearsedSince(fb.Rehearsed) {
			return
		}
		whom := fb.Supplier
		if n := c.Node(fb.Node); n != nil {
			if n.Spare {
				return
			}
			whom = c.supplierOf(n.Name)
		}
		if s := c.Supplier(whom); s != nil && !s.Provisions.Known() {
			c.Report(path, fallbackOf(f, fb), "The fallback of %q to %s must be built first, and supplier %q has not undertaken to deliver in any time; %q is to be back within %s.", f.Name, toward(fb), s.Name, f.Name, f.RTO).
				With(at("functions", i, "rto"))
		}
	})
}

// undertaken reports whether somebody is bound to deliver what a step waits
// for: its supplier, or every supplier of the plan's hosts.
func (c *Context) undertaken(s *plan.Step, r *plan.RecoveryPlan) bool {
	if s.Supplier != "" {
		from := c.Supplier(s.Supplier)
		return from != nil && from.Provisions.Known()
	}
	for _, name := range r.Functions {
		if f := c.Function(name); f != nil {
			for _, host := range f.Host {
				if n := c.Node(host); n != nil && n.Supplier != "" {
					if from := c.Supplier(n.Supplier); from == nil || !from.Provisions.Known() {
						return false
					}
					continue
				}
				return false
			}
		}
	}
	return len(r.Functions) > 0
}

// tightestOf is the function with the shortest RTO, or nil if none has one.
func (c *Context) tightestOf(names []string) (tightest *plan.Function) {
	for _, name := range names {
		f := c.Function(name)
		if f == nil || !f.RTO.Known() {
			continue
		}
		if tightest == nil || f.RTO.Longest() < tightest.RTO.Longest() || f.RTO.Longest() == tightest.RTO.Longest() && f.Name < tightest.Name {
			tightest = f
		}
	}
	return tightest
}

func (c *Context) functionPath(f *plan.Function) string {
	return at("functions", slices.IndexFunc(c.Functions, func(x plan.Function) bool { return x.Name == f.Name }))
}
