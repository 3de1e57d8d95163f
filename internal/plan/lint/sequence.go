package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// sequenceRules judge the order of the steps of recovery plans, and what must
// not be missing between them.
var sequenceRules = []Rule{
	{
		ID: "no-fencing", Title: "Nothing stops the old node before the new one takes over", Group: "sequence", Severity: Error,
		Why:   "A node that cannot be reached may still run. When it comes back, or clients still reach it, two copies accept writes, and one of them is lost.",
		Mend:  "Add a step of kind fence before it: switch the old node off in its supplier's panel, or withdraw its credentials and its address.",
		check: noFencing,
	},
	{
		ID: "no-failback", Title: "No way back from the fallback", Group: "sequence", Severity: Warning,
		Why:    "A fallback is smaller, dearer or further away than what it stands in for. Without a plan for the way back it becomes permanent, and its own data are lost when somebody improvises.",
		Mend:   "Add a step of kind failback to a recovery plan of these functions: who decides it, what is copied back, how it is validated.",
		Source: "NIST SP 800-34 r1, 4.4 (reconstitution); ISO 22301:2019, 8.4.5",
		check:  noFailback,
	},
	{
		ID: "no-reconciliation", Title: "Lost writes are not looked for", Group: "sequence", Severity: Warning,
		Why:   "What was written after the recovered point is gone, but other systems, mails and people still count on it. If nobody compares, the difference is found by a client.",
		Mend:  "Add a step of kind reconcile after the restore: which records of others (mail, payments, clients) show what is missing, and who enters it again.",
		check: noReconciliation,
	},
	{
		ID: "supplier-judges-itself", Title: "What is lost is asked whether it is lost", Group: "sequence", Severity: Warning,
		Why:   "A status page is written by the one who has failed, often late, and a probe that runs on the lost machine falls silent with it.",
		Mend:  "Add two signals that do not come from what is lost: a probe from a node or service of another supplier, and an attempt by a person over another network.",
		check: supplierJudgesItself,
	},
	{
		ID: "single-signal", Title: "A loss is told from fewer than two signals", Group: "sequence", Severity: Warning,
		Why:   "One signal cannot tell a dead node from a dead observer. Acting on it starts recoveries that were not needed; waiting for more costs the time of the recovery.",
		Mend:  "Name two signals from different places: for one server, a probe service outside and an attempt by a person over another network are enough.",
		check: singleSignal,
	},
	{
		ID: "one-kind-of-probe", Title: "A function is looked at by one kind of probe", Group: "sequence", Severity: Warning,
		Why:   "The fleet confirms a loss by two kinds of signal that do not fail for one cause: a web page that does not come may be a certificate, a name or a proxy. With one kind it stays a suspicion: traffic goes around it, and no recovery begins.",
		Mend:  "Add a probe of another kind at another port: SSH or a port of the same machine, the unit (systemd), the database behind it.",
		check: oneKindOfProbe,
	},
	{
		ID: "watch-not-public", Title: "Another fleet is watched by more than its public endpoints", Group: "sequence", Severity: Error,
		Why:   "Whoever watches an isolated fleet from outside needs nothing of it: a login, a private network or a place in both would join what is kept apart.",
		Mend:  "Look at what anybody can reach: https, tls, tcp, dns, smtp or ssh at a public address, without a login.",
		check: watchNotPublic,
	},
	{
		ID: "dns-before-validation", Title: "Names are redirected before anything is validated", Group: "sequence", Severity: Error,
		Why:    "Clients are sent to a system that nobody has tried; a wrong restore is then written to.",
		Mend:   "Add a step of kind validate before the step of kind dns, and let it use the probes of the function.",
		Source: "NIST SP 800-34 r1, 4.4 (validation testing)",
		check:  dnsBeforeValidation,
	},
	{
		ID: "wipe-before-capture", Title: "Traces are destroyed before they are captured", Group: "sequence", Severity: Error,
		Why:    "What is wiped or rebuilt cannot tell how the intruder came in; the same door stays open, and authorities and insurers ask for the evidence.",
		Mend:   "Add a step of kind capture before it: disk, memory and logs, copied to where the affected node cannot write.",
		Source: "ISO/IEC 27001:2022, A.5.28",
		check:  wipeBeforeCapture,
	},
	{
		ID: "incident-phase-missing", Title: "A security incident is not followed through", Group: "sequence", Severity: Warning,
		Why:    "What the plan leaves out is forgotten on the day: an incident that was restored and never investigated comes back, one that was never reviewed teaches nothing.",
		Mend:   "Give the scenario a recovery plan with steps of kind isolate, capture, investigate, restore (or rebuild) and review.",
		Source: "ISO/IEC 27001:2022, A.5.24, A.5.26 to A.5.28; NIST SP 800-61 r2, 3",
		check:  incidentPhaseMissing,
	},
	{
		ID: "step-order-broken", Title: "Steps that can never begin", Group: "sequence", Severity: Error,
		Why:   "A step that waits for itself, or for a step that does not exist, is never reached.",
		Mend:  "Let every step come after steps of the same plan that do not wait for it.",
		check: stepOrderBroken,
	},
}

// order is who comes before whom among the steps of a recovery plan: steps
// run as written unless they say after what.
type order struct {
	steps  []plan.Step
	before [][]int // direct predecessors
	wrong  [][]string
}

func orderOf(r *plan.RecoveryPlan) *order {
	o := &order{steps: r.Steps, before: make([][]int, len(r.Steps)), wrong: make([][]string, len(r.Steps))}
	place := map[string]int{}
	for i := range r.Steps {
		place[r.Steps[i].Name] = i
	}
	for i := range r.Steps {
		if len(r.Steps[i].After) == 0 && i > 0 {
			o.before[i] = []int{i - 1}
		}
		for _, name := range r.Steps[i].After {
			if j, ok := place[name]; ok {
				o.before[i] = append(o.before[i], j)
			} else {
				o.wrong[i] = append(o.wrong[i], name)
			}
		}
	}
	return o
}

// all lists the steps that must have ended before step i begins; i itself is
// among them when it waits for itself.
func (o *order) all(i int) (out []int) {
	seen := make([]bool, len(o.steps))
	todo := slices.Clone(o.before[i])
	for len(todo) > 0 {
		j := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !seen[j] {
			seen[j] = true
			out = append(out, j)
			todo = append(todo, o.before[j]...)
		}
	}
	return out
}

// preceded reports whether a step of one of the kinds ends before step i.
func (o *order) preceded(i int, kinds ...string) bool {
	return slices.ContainsFunc(o.all(i), func(j int) bool { return slices.Contains(kinds, o.steps[j].Kind) })
}

// first is the first step, in written order, of one of the kinds that no step
// of the others precedes; -1 when there is none.
func (o *order) first(kinds []string, unless ...string) int {
	return slices.IndexFunc(o.indexes(), func(i int) bool {
		return slices.Contains(kinds, o.steps[i].Kind) && !o.preceded(i, unless...)
	})
}

func (o *order) indexes() []int {
	out := make([]int, len(o.steps))
	for i := range out {
		out[i] = i
	}
	return out
}

func hasStep(r *plan.RecoveryPlan, kinds ...string) bool {
	return slices.ContainsFunc(r.Steps, func(s plan.Step) bool { return slices.Contains(kinds, s.Kind) })
}

// stateful reports whether losing a function's node can lose data: two copies
// of it that accept writes differ.
func (c *Context) stateful(f *plan.Function) bool {
	switch f.Kind {
	case "inference", "dns", "certificates", "monitoring", "status-page":
		return false // they answer, and keep nothing that clients write
	}
	for _, name := range f.Data {
		if d := c.DataClass(name); d != nil && d.Rebuilt == "" {
			return true
		}
	}
	if len(f.Data) > 0 {
		return false
	}
	switch f.Kind {
	case "database", "repository", "mail", "password-manager", "incident-log":
		return true
	}
	return f.RPO.Known() || !f.Size.IsZero() || len(c.BackupsOf(f)) > 0
}

// statefulOf lists the functions of a recovery plan that hold data, and the
// nodes they run on beside those that it recovers onto.
func (c *Context) statefulOf(r *plan.RecoveryPlan) (functions, left []string) {
	for _, name := range r.Functions {
		f := c.Function(name)
		if f == nil || !c.stateful(f) {
			continue
		}
		functions = append(functions, name)
		for _, host := range f.Host {
			if !slices.Contains(r.Onto, host) && !slices.Contains(left, host) {
				left = append(left, host)
			}
		}
	}
	return functions, left
}

// takesOver are the kinds of steps after which another copy is written to.
var takesOver = []string{"promote", "start", "switch", "dns"}

func noFencing(c *Context) {
	for i := range c.Recovery {
		r := &c.Recovery[i]
		functions, left := c.statefulOf(r)
		if len(left) == 0 {
			continue
		}
		kinds := takesOver
		if !hasStep(r, kinds...) {
			kinds = []string{"restore", "rebuild"}
		}
		n := orderOf(r).first(kinds, "fence", "isolate")
		if n < 0 {
			continue
		}
		c.Report(at("recovery", i, at("steps", n)), about("recovery plan", r.Name),
			"Step %q brings %s back elsewhere while nothing has stopped %s, which may still run and accept writes.",
			r.Steps[n].Name, these("function", "functions", functions), these("node", "nodes", left))
	}
	c.automaticWithoutFencing()
}

// automaticWithoutFencing finds replicas that take over by themselves although
// no recovery plan of the function stops the old node.
func (c *Context) automaticWithoutFencing() {
	for i := range c.Functions {
		f := &c.Functions[i]
		for j, fb := range f.Fallbacks {
			if !fb.Automatic || fb.Node == "" || fb.Data != "replica" || c.recoveredOnto(f.Name, fb.Node) {
				continue
			}
			c.Report(at("functions", i, at("fallbacks", j)), about("function", f.Name),
				"Node %q takes function %q over by itself from a replica, and no recovery plan says what stops %s first.",
				fb.Node, f.Name, these("node", "nodes", f.Host)).
				Saying("Write a recovery plan of function %q onto node %q that starts automatically, with a step of kind fence before the step of kind promote.", f.Name, fb.Node)
		}
	}
}

func (c *Context) recoveredOnto(function, node string) bool {
	return slices.ContainsFunc(c.Recovery, func(r plan.RecoveryPlan) bool {
		return slices.Contains(r.Functions, function) && slices.Contains(r.Onto, node)
	})
}

func noReconciliation(c *Context) {
	for i := range c.Recovery {
		r := &c.Recovery[i]
		if !hasStep(r, "restore", "replay", "promote") || hasStep(r, "reconcile") {
			continue
		}
		functions, _ := c.statefulOf(r)
		functions = slices.DeleteFunc(functions, func(name string) bool { return c.losesNothing(name) || c.recovered(name, "reconcile") })
		if len(functions) == 0 {
			continue
		}
		c.Report(at("recovery", i), about("recovery plan", r.Name),
			"Recovery plan %q goes back to an older state of %s, and no step looks for what was written since.",
			r.Name, c.withLoss(functions))
	}
}

// losesNothing reports a function that promises to lose no data at all.
func (c *Context) losesNothing(name string) bool {
	f := c.Function(name)
	return f.RPO.Known() && f.RPO.Longest() == 0
}

// withLoss names functions with what each may lose.
func (c *Context) withLoss(functions []string) string {
	var words []string
	for _, name := range slices.Sorted(slices.Values(functions)) {
		if rpo := c.Function(name).RPO; rpo.Known() {
			words = append(words, fmt.Sprintf("function %q (up to %s)", name, rpo))
		} else {
			words = append(words, about("function", name))
		}
	}
	return listed(words)
}

func dnsBeforeValidation(c *Context) {
	for i := range c.Recovery {
		r := &c.Recovery[i]
		if n := orderOf(r).first([]string{"dns"}, "validate"); n >= 0 {
			c.Report(at("recovery", i, at("steps", n)), about("recovery plan", r.Name),
				"Step %q of recovery plan %q sends clients to what was recovered, and no step of kind validate comes before it.", r.Steps[n].Name, r.Name)
		}
	}
}

func wipeBeforeCapture(c *Context) {
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		if s.Kind != "security" {
			continue
		}
		for j := range c.Recovery {
			r := &c.Recovery[j]
			if !slices.Contains(s.Recovery, r.Name) {
				continue
			}
			n := orderOf(r).first(c.overwriting(r), "capture")
			if n < 0 {
				continue
			}
			c.Report(at("recovery", j, at("steps", n)), fmt.Sprintf("scenario %q and recovery plan %q", s.Name, r.Name),
				"After scenario %q, step %q of recovery plan %q overwrites what an intruder left, and no step of kind capture comes before it.", s.Name, r.Steps[n].Name, r.Name).
				With(at("scenarios", i, "recovery"))
		}
	}
}

// overwriting are the kinds of steps that destroy traces: a wipe always, what
// is brought back only where it runs on the node that was affected.
func (c *Context) overwriting(r *plan.RecoveryPlan) []string {
	for _, name := range r.Functions {
		if f := c.Function(name); f != nil && slices.ContainsFunc(f.Host, func(host string) bool { return slices.Contains(r.Onto, host) }) {
			return []string{"wipe", "rebuild", "restore"}
		}
	}
	return []string{"wipe"}
}

func stepOrderBroken(c *Context) {
	for i := range c.Recovery {
		r := &c.Recovery[i]
		o := orderOf(r)
		var circle []string
		for n := range r.Steps {
			if len(o.wrong[n]) > 0 {
				c.Report(at("recovery", i, at("steps", n)), fmt.Sprintf("step %q of recovery plan %q", r.Steps[n].Name, r.Name),
					"Step %q comes after %s, which recovery plan %q does not have.", r.Steps[n].Name, quoted(o.wrong[n]), r.Name)
			}
			if slices.Contains(o.all(n), n) {
				circle = append(circle, r.Steps[n].Name)
			}
		}
		if len(circle) > 0 {
			c.Report(at("recovery", i, "steps"), about("recovery plan", r.Name),
				"In recovery plan %q, %s %s, so none can begin.", r.Name, these("step", "steps", circle), does(circle, "waits for itself", "wait for each other"))
		}
	}
}
