package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// dependencyRules judge what is needed while something is recovered: it must
// be there, and sooner than what waits for it.
var dependencyRules = slices.Concat([]Rule{
	{
		ID: "dependency-slower-than-dependent", Title: "What a function waits for is back later than the function", Group: "dependencies", Severity: Error,
		Why:    "A function cannot be back before what it needs, or what it is restored from. Its own objective is a promise that somebody else's objective breaks.",
		Mend:   "Give what is waited for the tighter RTO and the means to keep it, or remove the dependency: a mirror elsewhere, a copy that travels with the backup.",
		Source: "ISO 22301:2019, 8.2.2; NIST SP 800-34 r1, 3.2.3",
		check:  dependencySlower,
	},
	{
		ID: "dependency-cycle", Title: "Functions wait for each other", Group: "dependencies", Severity: Error,
		Why:    "After a loss of all of them none can be the first to come back. It is not noticed while at least one runs.",
		Mend:   "Say which one can start without the others, and remove it from the circle: a copy of what it is restored from, a mode in which it runs alone.",
		Source: "ISO 22301:2019, 8.2.2; NIST SP 800-34 r1, 3.2.3",
		check:  dependencyCycle,
	},
	{
		ID: "channel-slower-than-notice", Title: "A notice travels by something that may be down for longer", Group: "dependencies", Severity: Error,
		Why:    "The outage that clients should hear of can be an outage of what tells them. The notice is then late although everybody did what was planned.",
		Mend:   "Add a channel that is outside of all that can fail here: a status page at another supplier, a list of telephone numbers on paper.",
		Source: "ISO 22301:2019, 8.4.3",
		check:  channelSlower,
	},
	{
		ID: "validation-blocks-critical", Title: "Critical functions wait until slow ones are validated", Group: "dependencies", Severity: Error,
		Why:    "If all is validated before anything serves, the slowest function decides when the most critical one is back.",
		Mend:   "Validate and redirect in groups: first a validate step and a dns step with functions: the critical ones, then those of the rest.",
		Source: "NIST SP 800-34 r1, 4.3.1",
		check:  validationBlocksCritical,
	},
	{
		ID: "function-without-host", Title: "Nothing says where a function runs", Group: "dependencies", Severity: Warning,
		Why:    "What falls when a node, site or supplier is lost cannot be said of a function without a place; nobody knows where to look when it is down.",
		Mend:   "Add host: with its nodes, or suppliers: with who runs it, and under which jurisdiction that is.",
		Source: "NIST SP 800-34 r1, 3.2.2",
		check:  functionWithoutHost,
	},
	{
		ID: "staging-slower-than-patch", Title: "Patches wait for a staging environment that is back too late", Group: "dependencies", Severity: Error,
		Why:    "If every change passes staging, and staging may be down for longer than a critical weakness may stay open, then the deadline or the gate falls on that day.",
		Mend:   "Give the staging environment an RTO below the shortest deadline, or write down how an urgent patch goes out without it.",
		Source: "ISO/IEC 27001:2022, A.8.8, A.8.31",
		check:  stagingSlower,
	},
}, toolRules)

func dependencySlower(c *Context) {
	fates := c.fates()
	uses := c.usedIn()
	for i := range c.Functions {
		f := &c.Functions[i]
		if !f.RTO.Known() {
			continue
		}
		w := waiting{c: c, f: f, fates: fates, severity: Warning}
		for _, name := range slices.Sorted(slices.Values(f.Needs)) {
			w.on(name, "it needs %q (%s)", Error)
		}
		for _, name := range slices.Sorted(slices.Values(slices.Concat(f.RestoreBy, uses[f.Name]))) {
			w.from(name)
		}
		if len(w.words) == 0 {
			continue
		}
		slices.Sort(w.words)
		c.Report(at("functions", i, "rto"), about("function", f.Name), "%q is to be back within %s, and waits for what may take longer: %s.", f.Name, f.RTO, listed(w.words)).With(w.paths...).As(w.severity)
	}
}

// waiting collects what a function waits for and that is slower than itself.
type waiting struct {
	c        *Context
	f        *plan.Function
	fates    map[string]fate
	words    []string
	paths    []string
	severity Severity
	seen     []string
}

// on follows what is needed, through functions that have no RTO of their own.
func (w *waiting) on(name, says string, severity Severity) {
	g := w.c.Function(name)
	if g == nil || name == w.f.Name || slices.Contains(w.seen, name) {
		return
	}
	w.seen = append(w.seen, name)
	placed := len(g.Host) > 0 || len(g.Suppliers) > 0
	switch {
	case placed && len(w.fates[name]) == 0: // no single loss stops it
	case !g.RTO.Known():
		for _, next := range slices.Sorted(slices.Values(g.Needs)) {
			w.on(next, fmt.Sprintf("through %q it needs %%q (%%s)", name), severity)
		}
	case g.RTO.Longest() > w.f.RTO.Longest():
		w.words = append(w.words, fmt.Sprintf(says, name, g.RTO))
		w.paths = append(w.paths, at("functions", slices.IndexFunc(w.c.Functions, func(x plan.Function) bool { return x.Name == name }), "rto"))
		w.severity = max(w.severity, severity)
	}
}

// from is for what a function is restored from: that matters if both can be
// lost at once.
func (w *waiting) from(name string) {
	g := w.c.Function(name)
	if g == nil {
		return
	}
	mine, its := w.fates[w.f.Name], w.fates[name]
	together := mine.shares(its, plan.KindNode, plan.KindSite)
	switch {
	case len(together) > 0:
		w.on(name, fmt.Sprintf("it is restored from %%q (%%s), which falls with the same %s", strings.ReplaceAll(quotedThing(together[0]), "%", "%%")), Error)
	case len(mine.shares(its, plan.KindSupplier)) > 0 || len(g.Host)+len(g.Suppliers) == 0:
		w.on(name, "it is restored from %q (%s), and nothing keeps both from being lost at once", Warning)
	}
}

func quotedThing(t plan.Thing) string { return fmt.Sprintf("%s %q", t.Kind, t.Name) }

// usedIn lists, for each function, what the steps that bring it back use.
func (c *Context) usedIn() map[string][]string {
	out := map[string][]string{}
	for _, r := range c.Recovery {
		for _, s := range r.Steps {
			if s.Kind != "restore" && s.Kind != "rebuild" && s.Kind != "start" {
				continue
			}
			names := s.Functions
			if len(names) == 0 {
				names = r.Functions
			}
			for _, f := range names {
				out[f] = append(out[f], s.Uses...)
			}
		}
	}
	return out
}

// dependencyCycle reports each set of functions that wait for each other once
// (Tarjan's strongly connected components).
func dependencyCycle(c *Context) {
	index := map[string]int{}
	for i := range c.Functions {
		index[c.Functions[i].Name] = i
	}
	t := tarjan{number: make([]int, len(c.Functions)), low: make([]int, len(c.Functions)), on: make([]bool, len(c.Functions))}
	t.next = func(i int) (out []int) {
		for _, name := range slices.Concat(c.Functions[i].Needs, c.Functions[i].RestoreBy) {
			if j, ok := index[name]; ok {
				out = append(out, j)
			}
		}
		return out
	}
	for i := range c.Functions {
		if t.number[i] == 0 {
			t.visit(i)
		}
	}
	for _, circle := range t.circles {
		var names, paths []string
		restored := false
		for _, i := range circle {
			f := &c.Functions[i]
			names, paths = append(names, f.Name), append(paths, at("functions", i, "needs"))
			restored = restored || slices.ContainsFunc(f.RestoreBy, func(name string) bool { return slices.Contains(circle, index[name]) })
		}
		message := upper(these("function", "functions", names)) + " need each other, so none can start first."
		if len(names) == 1 {
			message = upper(these("function", "functions", names)) + " needs itself, so it can never come back."
		}
		found := c.Report(paths[0], these("function", "functions", names), "%s", message).With(paths[1:]...)
		if !restored && len(names) > 1 {
			found.As(Warning) // each may be able to start and wait for the other
		}
	}
}

type tarjan struct {
	next    func(int) []int
	count   int
	number  []int
	low     []int
	on      []bool
	stack   []int
	circles [][]int
}

func (t *tarjan) visit(i int) {
	t.count++
	t.number[i], t.low[i] = t.count, t.count
	t.stack, t.on[i] = append(t.stack, i), true
	itself := false
	for _, j := range t.next(i) {
		itself = itself || i == j
		if t.number[j] == 0 {
			t.visit(j)
			t.low[i] = min(t.low[i], t.low[j])
		} else if t.on[j] {
			t.low[i] = min(t.low[i], t.number[j])
		}
	}
	if t.low[i] != t.number[i] {
		return
	}
	from := slices.Index(t.stack, i)
	circle := slices.Clone(t.stack[from:])
	for _, j := range circle {
		t.on[j] = false
	}
	t.stack = t.stack[:from]
	if len(circle) > 1 || itself {
		t.circles = append(t.circles, circle)
	}
}

// outages are the events in which what carries a notice may itself be down.
var outages = []string{"outage", "security-incident", "personal-data-breach", "supplier-loss"}

func channelSlower(c *Context) {
	for i := range c.Notices {
		n := &c.Notices[i]
		if !slices.Contains(outages, n.Event) || !n.Within.Known() {
			continue
		}
		carriers, named := c.carriers(n)
		var words, paths []string
		severity := Error
		for _, j := range carriers {
			f := &c.Functions[j]
			switch {
			case slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool { return c.carries(f, &fb) }) || f.RTO.Known() && f.RTO.Longest() <= n.Within.Longest():
				words = nil
			case f.RTO.Known():
				words, paths = append(words, fmt.Sprintf("%q (back within %s)", f.Name, f.RTO)), append(paths, at("functions", j, "rto"))
			default:
				words, paths, severity = append(words, fmt.Sprintf("%q (nothing says by when it is back)", f.Name)), append(paths, at("functions", j)), Warning
			}
			if words == nil {
				break
			}
		}
		if len(words) == 0 {
			continue
		}
		how := "travels only by"
		if !named {
			how = "names no channel, and would travel by"
		}
		slices.Sort(words)
		c.Report(at("notices", i), about("notice", n.Name), "Notice %q is due within %s and %s %s.", n.Name, n.Within, how, listed(words)).With(paths...).As(severity)
	}
}

// carriers lists the functions that carry a notice, where nothing else does;
// named is false where the notice names no channel and mail is what remains.
func (c *Context) carriers(n *plan.Notice) (out []int, named bool) {
	for i := range c.Functions {
		f := &c.Functions[i]
		if slices.ContainsFunc(n.Channels, func(ch plan.Channel) bool { return ch.Function == f.Name }) || len(n.Channels) == 0 && f.Kind == "mail" {
			out = append(out, i)
		}
	}
	if slices.ContainsFunc(n.Channels, func(ch plan.Channel) bool { return ch.Function == "" }) {
		return nil, true
	}
	return out, len(n.Channels) > 0
}

func validationBlocksCritical(c *Context) {
	for i := range c.Recovery {
		r := &c.Recovery[i]
		order := orderOf(r)
		var worst *blocked
		for v := range r.Steps {
			if r.Steps[v].Kind != "validate" {
				continue
			}
			for d := range r.Steps {
				if k := r.Steps[d].Kind; (k == "dns" || k == "switch") && slices.Contains(order.all(d), v) {
					worst = c.blocks(r, v, d, worst)
				}
			}
		}
		if worst == nil {
			continue
		}
		slices.Sort(worst.slow)
		c.Report(fmt.Sprintf("recovery[%d].steps[%d]", i, worst.validate), about("recovery plan", r.Name), "Step %q of recovery plan %q waits for %s, and step %q for it: %q is to serve again within %s.",
			r.Steps[worst.validate].Name, r.Name, listed(worst.slow), r.Steps[worst.redirect].Name, worst.f.Name, worst.f.RTO).With(fmt.Sprintf("recovery[%d].steps[%d]", i, worst.redirect))
	}
}

// blocked is a critical function that waits for the validation of slow ones.
type blocked struct {
	f                  *plan.Function
	validate, redirect int
	slow               []string
}

// blocks looks for the tightest function that step d redirects and that step v
// keeps waiting for a slower one; worst is what was found before.
func (c *Context) blocks(r *plan.RecoveryPlan, v, d int, worst *blocked) *blocked {
	for _, name := range coalesce(r.Steps[d].Functions, r.Functions) {
		f := c.Function(name)
		if f == nil || !f.RTO.Known() || worst != nil && (f.RTO.Longest() > worst.f.RTO.Longest() || f.RTO.Longest() == worst.f.RTO.Longest() && f.Name >= worst.f.Name) {
			continue
		}
		if e := c.RecoveryTime(r, f, c.Measured); e.Derived() && e.Total-c.BeforeClock(r, e) <= f.RTO.Longest() {
			continue // together they are fast enough, as the numbers show
		}
		var slow []string
		for _, other := range coalesce(r.Steps[v].Functions, r.Functions) {
			if g := c.Function(other); g != nil && g.RTO.Known() && g.RTO.Longest() > f.RTO.Longest() {
				slow = append(slow, fmt.Sprintf("%q (%s)", g.Name, g.RTO))
			}
		}
		if len(slow) > 0 {
			worst = &blocked{f: f, validate: v, redirect: d, slow: slow}
		}
	}
	return worst
}

func coalesce(own, all []string) []string {
	if len(own) > 0 {
		return own
	}
	return all
}

func functionWithoutHost(c *Context) {
	tools := c.tools()
	for i := range c.Functions {
		f := &c.Functions[i]
		if len(f.Host) > 0 || tools[f.Name] {
			continue // what recoveries use is another rule's
		}
		if len(f.Suppliers) == 0 {
			c.Report(at("functions", i, "host"), about("function", f.Name), "Nothing says where %q runs: it has neither a node nor a supplier.", f.Name)
			continue
		}
		if !slices.ContainsFunc(f.Suppliers, func(name string) bool { s := c.Supplier(name); return s != nil && s.Jurisdiction != "" }) {
			c.Report(at("functions", i, "host"), about("function", f.Name), "Nothing says where %q runs: it has no node, and of %s no jurisdiction is given.", f.Name, these("supplier", "suppliers", f.Suppliers))
		}
	}
}

func stagingSlower(c *Context) {
	p := &c.Security.Patching
	staging := c.Function(p.Staging)
	if staging == nil {
		return
	}
	var words []string
	for _, d := range []struct {
		name string
		due  plan.Span
	}{{"critical", p.Critical}, {"high", p.High}, {"medium", p.Medium}, {"low", p.Low}} {
		if d.due.Known() && staging.RTO.Known() && staging.RTO.Longest() > d.due.Longest() {
			words = append(words, fmt.Sprintf("%s ones (%s)", d.name, d.due))
		}
	}
	path := at("functions", slices.IndexFunc(c.Functions, func(f plan.Function) bool { return f.Name == staging.Name }))
	switch {
	case len(words) > 0:
		c.Report("security.patching.staging", "patching", "Every patch passes %q, which may be down for %s; that is too late for %s.", staging.Name, staging.RTO, listed(words)).With(path + ".rto")
	case !staging.RTO.Known() && p.Critical.Known():
		c.Report("security.patching.staging", "patching", "Every patch passes %q, and nothing says by when that is back; critical ones are due after %s.", staging.Name, p.Critical).With(path).As(Warning)
	}
}
