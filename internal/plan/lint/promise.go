package lint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

var promiseRules = []Rule{
	{
		ID: "count-contradicts", Title: "A number that is claimed is not the number described", Group: "arithmetic", Severity: Error,
		Why:   "Something exists that the plan does not protect, or something is claimed that does not exist; in an emergency people look for it.",
		Mend:  "Describe what is missing, or correct the number in the document that claims it.",
		check: countContradicts,
	},
	{
		ID: "promise-contradicts-plan", Title: "A promise says something else than the plan", Group: "arithmetic", Severity: Error,
		Why:    "Clients rely on the promise and people work by the plan: the promise is broken by everyone doing what was planned.",
		Mend:   "Change the plan so that it keeps the promise, or restrict the promise (of:, when:) to what the plan can keep, in the document too.",
		Source: "ISO 22301:2019, 4.2, 8.2.2",
		check:  promiseContradictsPlan,
	},
	{
		ID: "promises-contradict", Title: "Two promises about the same thing differ", Group: "arithmetic", Severity: Error,
		Why:   "Whoever reads only one of the documents relies on what the other denies.",
		Mend:  "Give one bound in both documents, or say in each what it is promised of (of:) and when (when:).",
		check: promisesContradict,
	},
	{
		ID: "planned-only-promise", Title: "A promise that holds only when the loss is planned", Group: "arithmetic", Severity: Warning,
		Why:   "Losses are not planned. What is promised for planned ones promises nothing on the day it is needed, and is read as if it did.",
		Mend:  "Promise it for unplanned scenarios too (when: always), or state the value for each function.",
		check: plannedOnlyPromise,
	},
}

// elsewhere are subjects whose contradictions other rules report.
var elsewhere = []string{"hosting.supplier", "claim.status"}

func counts(subject string) bool { return strings.HasSuffix(subject, ".count") }

func countContradicts(c *Context) {
	for i := range c.Commitments {
		promise := &c.Commitments[i]
		subject, ok := plan.SubjectNamed(promise.Subject)
		if !ok || !counts(subject.Name) || len(promise.Of) > 0 {
			continue
		}
		for _, said := range c.Says(subject.Name, "") {
			if kept, ok := subject.Keeps(promise, said); kept || !ok {
				continue
			}
			things, _, _ := strings.Cut(subject.Name, ".")
			names := c.namesOf(things)
			missing := ""
			if gaps := gaps(names); len(gaps) > 0 {
				missing = "; their numbers leave out " + quoted(gaps)
			}
			described := "none"
			if len(names) > 0 {
				described = fmt.Sprintf("%d, %s", len(names), quoted(names))
			}
			c.Report(boundPath(i, promise), about("commitment", promise.Name), "%q claims %s %s; the plan describes %s%s.", promise.Name, promise.Promise(), things, described, missing).With(said.Path)
		}
	}
}

func (c *Context) namesOf(things string) (names []string) {
	switch things {
	case "nodes":
		for _, n := range c.Nodes {
			names = append(names, n.Name)
		}
	case "sites":
		for _, s := range c.Sites {
			names = append(names, s.Name)
		}
	case "suppliers":
		for _, s := range c.Suppliers {
			names = append(names, s.Name)
		}
	case "functions":
		for _, f := range c.Functions {
			names = append(names, f.Name)
		}
	case "people":
		for _, p := range c.People {
			if !p.Outside {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

// gaps lists the numbers that names such as oven-1, oven-2, oven-4 leave out.
func gaps(names []string) (out []string) {
	series := map[string][]int{}
	for _, name := range names {
		prefix := strings.TrimRight(name, "0123456789")
		if n, err := strconv.Atoi(name[len(prefix):]); err == nil && prefix != "" && n < 1000 {
			series[prefix] = append(series[prefix], n)
		}
	}
	for prefix, numbers := range series {
		if len(numbers) < 2 {
			continue
		}
		for n := slices.Min(numbers); n < slices.Max(numbers); n++ {
			if !slices.Contains(numbers, n) {
				out = append(out, prefix+strconv.Itoa(n))
			}
		}
	}
	slices.Sort(out)
	return out
}

// boundPath is where a commitment gives its bound.
func boundPath(i int, c *plan.Commitment) string {
	switch {
	case c.AtMost != "":
		return at("commitments", i, "at_most")
	case c.AtLeast != "":
		return at("commitments", i, "at_least")
	case c.Equals != "":
		return at("commitments", i, "equals")
	case len(c.OneOf) > 0:
		return at("commitments", i, "one_of")
	case len(c.NoneOf) > 0:
		return at("commitments", i, "none_of")
	}
	return at("commitments", i)
}

// said lists what the plan says of everything that a promise is made of; all
// is what it says of the subject.
func said(promise *plan.Commitment, all []plan.Value) (out []plan.Value) {
	for _, v := range all {
		if len(promise.Of) == 0 || slices.ContainsFunc(promise.Of, v.Is) {
			out = append(out, v)
		}
	}
	return out
}

func promiseContradictsPlan(c *Context) {
	says := map[string][]plan.Value{}
	for i := range c.Commitments {
		promise := &c.Commitments[i]
		subject, ok := plan.SubjectNamed(promise.Subject)
		if !ok || counts(subject.Name) || slices.Contains(elsewhere, subject.Name) {
			continue
		}
		var broken, paths []string
		if _, known := says[subject.Name]; !known {
			says[subject.Name] = c.Says(subject.Name, "")
		}
		for _, v := range said(promise, says[subject.Name]) {
			if kept, ok := subject.Keeps(promise, v); kept || !ok {
				continue
			}
			words := v.Text
			if v.Of != "" {
				words = fmt.Sprintf("%s for %q", v.Text, v.Of)
			}
			broken, paths = append(broken, words), append(paths, v.Path)
		}
		if len(broken) > 0 {
			slices.Sort(broken)
			broken = slices.Compact(broken)
			c.Report(boundPath(i, promise), about("commitment", promise.Name), "%q promises %s (%s)%s; the plan says %s.",
				promise.Name, promise.Promise(), subject.Says, whenSays(promise), listed(broken)).With(slices.Compact(paths)...)
		}
	}
}

func whenSays(c *plan.Commitment) string {
	switch c.When {
	case "", "always":
		return ""
	case "where-required":
		return " where it is required"
	}
	return " when a loss is " + c.When
}

func promisesContradict(c *Context) {
	bySubject := map[string][]int{}
	for i := range c.Commitments {
		bySubject[c.Commitments[i].Subject] = append(bySubject[c.Commitments[i].Subject], i)
	}
	for name, promises := range bySubject {
		subject, ok := plan.SubjectNamed(name)
		if !ok {
			continue
		}
		for n, i := range promises {
			for _, j := range promises[n+1:] {
				if c.Commitments[i].Name < c.Commitments[j].Name {
					c.comparePromises(subject, i, j)
				} else {
					c.comparePromises(subject, j, i)
				}
			}
		}
	}
}

func (c *Context) comparePromises(subject plan.Subject, i, j int) {
	a, b := &c.Commitments[i], &c.Commitments[j]
	if !overlap(a.Of, b.Of) || !sameTime(a.When, b.When) || a.From != "" && b.From != "" && a.From != b.From {
		return
	}
	verdict := ""
	severity := Error
	switch {
	case impossible(subject, a, b):
		verdict = "both cannot hold"
	case boundsDiffer(subject.Unit, a, b):
		verdict, severity = "whoever reads one of them expects something else than who reads the other", Warning
	default:
		return
	}
	c.Report(boundPath(j, b), about("commitment", a.Name)+" and "+about("commitment", b.Name), "Of %q (%s), %q promises %s and %q promises %s: %s.",
		subject.Name, subject.Says, a.Name, a.Promise(), b.Name, b.Promise(), verdict).With(boundPath(i, a)).As(severity)
}

// overlap reports whether two promises speak of a thing in common.
func overlap(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(name string) bool { return slices.Contains(b, name) })
}

func sameTime(a, b string) bool {
	always := func(when string) bool { return when == "" || when == "always" }
	return always(a) || always(b) || a == b
}

// impossible reports whether no value keeps both promises.
func impossible(s plan.Subject, a, b *plan.Commitment) bool {
	for range 2 {
		if a.Equals != "" {
			kept, ok := s.Keeps(b, plan.Value{Text: string(a.Equals)})
			return ok && !kept
		}
		if a.AtMost != "" && b.AtLeast != "" {
			order, ok := s.Unit.Compare(a.AtMost, b.AtLeast)
			return ok && order < 0
		}
		if len(a.OneOf) > 0 && (len(b.OneOf) > 0 || len(b.NoneOf) > 0) {
			return !slices.ContainsFunc(members(s, a.OneOf), func(word string) bool {
				kept, _ := s.Keeps(b, plan.Value{Text: word})
				return kept
			})
		}
		a, b = b, a
	}
	return false
}

// members lists what a list of words allows, one by one.
func members(s plan.Subject, words []string) []string {
	if s.Unit == plan.Countries {
		return plan.CountriesOf(words...)
	}
	return words
}

// boundsDiffer reports whether two bounds of the same kind and scope are not the
// same. A tighter promise for some is no contradiction to a general one.
func boundsDiffer(u plan.Unit, a, b *plan.Commitment) bool {
	for _, pair := range [][2]plan.Bound{{a.AtMost, b.AtMost}, {b.AtLeast, a.AtLeast}} {
		x, y := pair[0], pair[1]
		if x == "" || y == "" {
			continue
		}
		order, ok := u.Compare(x, y)
		switch {
		case !ok || order == 0:
			return false
		case len(a.Of) == 0 && len(b.Of) > 0: // b is special: it may be tighter
			return order < 0
		case len(b.Of) == 0 && len(a.Of) > 0:
			return order > 0
		}
		return true
	}
	return false
}

// ofRecovery are subjects that a promise for planned losses only leaves open.
var ofRecovery = []string{"function.mtd", "function.rpo", "function.rto", "notice.within", "scenario.confirm-within", "scenario.detect-within", "scenario.restore-within"}

func plannedOnlyPromise(c *Context) {
	var unplanned []string
	for _, s := range c.Scenarios {
		if s.Kind != "planned" {
			unplanned = append(unplanned, s.Name)
		}
	}
	for i := range c.Commitments {
		promise := &c.Commitments[i]
		if promise.When != "planned" || !slices.Contains(ofRecovery, promise.Subject) || c.alsoUnplanned(promise) {
			continue
		}
		silent := c.silent(promise)
		if len(silent) == 0 {
			continue
		}
		against := "every unplanned loss"
		if len(unplanned) > 0 {
			against = "the unplanned " + these("scenario", "scenarios", unplanned)
		}
		subject, _ := plan.SubjectNamed(promise.Subject)
		c.Report(at("commitments", i, "when"), about("commitment", promise.Name), "%q promises %s (%s) only when a loss is planned; for %s nothing is promised, and the plan gives no value of its own for %s.",
			promise.Name, promise.Promise(), subject.Says, against, quoted(silent)).With(boundPath(i, promise))
	}
}

// alsoUnplanned reports whether another promise covers what this one leaves out.
func (c *Context) alsoUnplanned(promise *plan.Commitment) bool {
	return slices.ContainsFunc(c.Commitments, func(other plan.Commitment) bool {
		covers := len(other.Of) == 0 || len(promise.Of) > 0 && !slices.ContainsFunc(promise.Of, func(name string) bool { return !slices.Contains(other.Of, name) })
		return other.Subject == promise.Subject && other.When != "planned" && other.When != "where-required" && covers
	})
}

// silent lists the critical functions of a promise that state no value of
// their own; for subjects that are not of functions, the promise's own name.
func (c *Context) silent(promise *plan.Commitment) (names []string) {
	all := c.Says(promise.Subject, "")
	if !strings.HasPrefix(promise.Subject, "function.") {
		if len(said(promise, all)) == 0 {
			names = append(names, promise.Subject)
		}
		return names
	}
	own := map[string]bool{}
	for _, v := range all {
		own[v.Of] = true
	}
	for _, f := range c.Functions {
		if (len(promise.Of) == 0 && f.IsCritical() || slices.Contains(promise.Of, f.Name)) && !own[f.Name] {
			names = append(names, f.Name)
		}
	}
	return names
}
