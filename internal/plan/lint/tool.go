package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

var toolRules = []Rule{
	{
		ID: "runbook-lost-with-node", Title: "Runbooks are lost with what they recover", Group: "dependencies", Severity: Error,
		Why:    "The instructions for the night lie on the machine that failed in it.",
		Mend:   "Print them (printed: true), or store them in a function too that does not fall with it.",
		Source: "ISO 22301:2019, 8.4.4; NIST SP 800-34 r1, 3.6",
		check:  runbookLost,
	},
	{
		ID: "recovery-tool-unplaced", Title: "What a recovery needs is lost too, or nobody knows where it is", Group: "dependencies", Severity: Error,
		Why:    "Passwords, names, code and the log of the incident are needed in the minute in which something fails. If they fall with it, or nobody can say that they do not, the recovery begins with looking for them.",
		Mend:   "Say where it runs (host: or suppliers:), and let that be neither the node nor the site that it helps to recover; or recover it first, in a step of its own.",
		Source: "ISO 22301:2019, 8.3.4",
		check:  recoveryToolUnplaced,
	},
	{
		ID: "certificate-needs-dns", Title: "Validation needs a certificate that needs DNS that waits for validation", Group: "dependencies", Severity: Error,
		Why:    "Over http-01 and tls-alpn-01 a new node gets its certificate only when the name leads to it. If the name is moved only after validation, and validation speaks TLS, neither can be first.",
		Mend:   "Use challenge: dns-01, or keep a copy of certificate and key where the recovery runs (copied_to:).",
		Source: "RFC 8555, 8.3, 8.4; RFC 8737, 3",
		check:  certificateNeedsDNS,
	},
}

func runbookLost(c *Context) {
	fates := c.fates()
	for i := range c.Runbooks {
		b := &c.Runbooks[i]
		if b.Printed || len(b.StoredIn) == 0 {
			continue
		}
		held := fate{}
		for n, name := range b.StoredIn {
			if n == 0 {
				for t := range fates[name] {
					held[t] = true
				}
				continue
			}
			for t := range held {
				if !fates[name][t] {
					delete(held, t)
				}
			}
		}
		lost := held.shares(c.servedBy(b, fates), plan.KindNode, plan.KindSite)
		if len(lost) == 0 {
			continue
		}
		c.Report(at("runbooks", i, "stored_in"), about("runbook", b.Name), "Runbook %q is needed when %s is lost, and is stored only in %s, which is lost with it.", b.Name, quotedThing(lost[0]), quoted(b.StoredIn))
	}
}

// servedBy is the loss of which things a runbook is for: of what its functions
// and scenarios fall with, of the plans whose steps name it; of every critical
// function where it does not say.
func (c *Context) servedBy(b *plan.Runbook, fates map[string]fate) fate {
	out := fate{}
	addFunction := func(name string) {
		for t := range fates[name] {
			out[t] = true
		}
	}
	addScenario := func(s *plan.Scenario) {
		gone, _ := c.lose(s.Loses)
		for t := range gone {
			out[t] = true
		}
	}
	for _, name := range b.For {
		addFunction(name)
		for i := range c.Scenarios {
			if c.Scenarios[i].Name == name {
				addScenario(&c.Scenarios[i])
			}
		}
	}
	named := false
	for _, r := range c.Recovery {
		if slices.ContainsFunc(r.Steps, func(s plan.Step) bool { return s.Runbook == b.Name }) {
			named = true
			for _, f := range r.Functions {
				addFunction(f)
			}
		}
	}
	if len(b.For) == 0 && !named {
		for i := range c.Functions {
			if f := &c.Functions[i]; f.IsCritical() {
				addFunction(f.Name)
			}
		}
	}
	return out
}

// heldInAnyRecovery are the kinds of functions that people need whatever it is
// that they recover.
var heldInAnyRecovery = []string{"password-manager", "incident-log"}

// tools are the functions that people or steps use to recover others.
func (c *Context) tools() map[string]bool {
	out := map[string]bool{}
	for i := range c.Functions {
		if slices.Contains(heldInAnyRecovery, c.Functions[i].Kind) {
			out[c.Functions[i].Name] = true
		}
	}
	for _, r := range c.Recovery {
		for _, s := range r.Steps {
			for _, name := range s.Uses {
				out[name] = true
			}
		}
	}
	for _, b := range c.Runbooks {
		if !b.Printed {
			for _, name := range b.StoredIn {
				out[name] = true
			}
		}
	}
	return out
}

func recoveryToolUnplaced(c *Context) {
	fates, tools, used := c.fates(), c.tools(), c.usedWhileLost()
	for i := range c.Functions {
		f := &c.Functions[i]
		if !tools[f.Name] {
			continue
		}
		if len(f.Host) == 0 && len(f.Suppliers) == 0 {
			c.Report(at("functions", i, "host"), about("function", f.Name), "Recoveries need %q, and nothing says where it runs: it may be lost with what it should recover.", f.Name).As(Warning)
			continue
		}
		if u, ok := used[f.Name]; ok {
			c.Report(u.path, about("function", f.Name), "Step %q of recovery plan %q uses %q, which is lost with %s, as what it recovers is.", u.step, u.plan, f.Name, quotedThing(u.with)).With(at("functions", i, "host"))
			continue
		}
		if !slices.Contains(heldInAnyRecovery, f.Kind) {
			continue
		}
		for _, t := range fates[f.Name].shares(c.criticalFate(f.Name), plan.KindNode, plan.KindSite) {
			c.Report(at("functions", i, "host"), about("function", f.Name), "When %s is lost, %q is lost with the critical functions that it should help to recover.", quotedThing(t), f.Name).As(Warning)
			break
		}
	}
}

// criticalFate is what critical functions other than one fall with.
func (c *Context) criticalFate(but string) fate {
	out := fate{}
	for i := range c.Functions {
		if f := &c.Functions[i]; f.Name != but && f.IsCritical() {
			for t := range c.fates()[f.Name] {
				out[t] = true
			}
		}
	}
	return out
}

// use is a step that uses what is lost when it runs.
type use struct {
	step, plan, path string
	with             plan.Thing
}

// usedWhileLost finds, for each function, the first step that uses it although
// the plan's own loss takes it away, and no earlier step brings it back.
func (c *Context) usedWhileLost() map[string]use {
	out := map[string]use{}
	scenarios := c.lossesOf()
	byName(c.Recovery, func(r *plan.RecoveryPlan) string { return r.Name }, func(j int, r *plan.RecoveryPlan) {
		for k := range r.Steps {
			for _, name := range r.Steps[k].Uses {
				if _, known := out[name]; known || broughtBack(r, k, name) {
					continue
				}
				together := c.fates()[name].shares(c.goneIn(r, name, scenarios), plan.KindNode, plan.KindSite)
				if len(together) > 0 {
					out[name] = use{r.Steps[k].Name, r.Name, fmt.Sprintf("recovery[%d].steps[%d].uses", j, k), together[0]}
				}
			}
		}
	})
	return out
}

// goneIn is what is gone when a recovery plan runs: what its scenarios lose,
// or, where they do not say, what its functions fall with.
func (c *Context) goneIn(r *plan.RecoveryPlan, but string, scenarios losses) fate {
	out := fate{}
	for _, s := range scenarios.of[r.Name] {
		gone, _ := c.lose(s.Loses)
		for t := range gone {
			out[t] = true
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, name := range r.Functions {
		if name != but {
			for t := range c.fates()[name] {
				out[t] = true
			}
		}
	}
	return out
}

// broughtBack reports whether a step before step k is there to bring back the
// function, by name.
func broughtBack(r *plan.RecoveryPlan, k int, name string) bool {
	earlier := orderOf(r).all(k)
	for j, s := range r.Steps {
		if slices.Contains(earlier, j) && slices.Contains(s.Functions, name) && slices.Contains([]string{"restore", "rebuild", "start", "promote", "switch"}, s.Kind) {
			return true
		}
	}
	return false
}

func certificateNeedsDNS(c *Context) {
	for i := range c.Recovery {
		r := &c.Recovery[i]
		var circular, unsaid, paths []string
		for j := range c.Functions {
			f := &c.Functions[j]
			if !slices.Contains(r.Functions, f.Name) || !validatedBeforeDNS(r, f.Name) {
				continue
			}
			cert := f.Certificate
			switch {
			case cert == nil && len(f.Hostnames) == 0:
			case cert == nil, cert.Challenge == "" && !copied(f):
				unsaid, paths = append(unsaid, f.Name), append(paths, at("functions", j, "certificate"))
			case (cert.Challenge == "http-01" || cert.Challenge == "tls-alpn-01") && !copied(f):
				circular, paths = append(circular, f.Name), append(paths, at("functions", j, "certificate"))
			}
		}
		switch {
		case len(circular) > 0:
			c.Report(at("recovery", i), about("recovery plan", r.Name), "Recovery plan %q validates %s before DNS leads to the new node, and the new node gets its certificate only after%s.", r.Name, quoted(circular), alsoUnsaid(unsaid)).With(paths...)
		case len(unsaid) > 0:
			c.Report(at("recovery", i), about("recovery plan", r.Name), "Recovery plan %q validates %s before DNS leads to the new node, and nothing says how the new node has a certificate by then.", r.Name, quoted(unsaid)).With(paths...).As(Warning).
				Saying("Write how each certificate comes about (certificate:, challenge:); with dns-01, or a copy at the fallback, it does not wait for DNS.")
		}
	}
}

func alsoUnsaid(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; how " + quoted(names) + does(names, " gets one", " get theirs") + " is not said"
}

// copied reports whether a certificate lies on a node that does not serve it now.
func copied(f *plan.Function) bool {
	return slices.ContainsFunc(f.Certificate.CopiedTo, func(node string) bool { return !slices.Contains(f.Host, node) })
}

// validatedBeforeDNS reports whether a plan validates a function, or fetches
// its certificate, before it redirects its name.
func validatedBeforeDNS(r *plan.RecoveryPlan, name string) bool {
	order := orderOf(r)
	for v, s := range r.Steps {
		if s.Kind != "validate" && s.Kind != "certificate" || !slices.Contains(coalesce(s.Functions, r.Functions), name) {
			continue
		}
		for d, t := range r.Steps {
			if t.Kind == "dns" && slices.Contains(coalesce(t.Functions, r.Functions), name) && slices.Contains(order.all(d), v) {
				return true
			}
		}
	}
	return false
}
