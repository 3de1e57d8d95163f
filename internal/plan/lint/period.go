package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// periodic are the kinds of duties that are nothing without a period: the
// others follow an event.
var periodic = []string{"plan-review", "exercise", "backup-test", "access-review", "vulnerability-assessment", "runbook-review", "supplier-review", "contact-review", "client-update", "attestation"}

func vaguePeriod(c *Context) {
	each(c, func(s plan.Span, path, subject string) {
		if s.Vague() != "" {
			field := strings.ReplaceAll(path[strings.LastIndexByte(path, '.')+1:], "_", " ")
			c.Report(path, subject, "%s says %q (%s): that is no length of time, so it is never late.", upper(subject), s.Vague(), field)
		}
	})
	c.vaguePromises()
	for i := range c.Duties {
		d := &c.Duties[i]
		if slices.Contains(periodic, d.Kind) && d.Every.IsZero() && d.Within.IsZero() && len(d.On) == 0 {
			c.Report(at("duties", i), about("duty", d.Name), "Duty %q does not say how often.", d.Name)
		}
	}
}

// vaguePromises reports promises without a number of what the plan itself says
// nothing of; where it says something, that is what is judged.
func (c *Context) vaguePromises() {
	for i := range c.Commitments {
		m := &c.Commitments[i]
		for _, b := range []struct {
			bound plan.Bound
			field string
		}{{m.AtMost, "at_most"}, {m.AtLeast, "at_least"}, {m.Equals, "equals"}} {
			s, err := plan.ParseSpan(string(b.bound))
			if err != nil || s.Vague() == "" || c.saysOf(m) {
				continue
			}
			c.Report(at("commitments", i, b.field), about("commitment", m.Name), "Commitment %q promises %q of %s: that is no length of time, so it is never late.", m.Name, s.Vague(), m.Subject)
		}
	}
}

// saysOf reports whether the plan says anything of what is promised.
func (c *Context) saysOf(m *plan.Commitment) bool {
	if len(m.Of) == 0 {
		return len(c.Says(m.Subject, "")) > 0
	}
	return !slices.ContainsFunc(m.Of, func(of string) bool { return len(c.Says(m.Subject, of)) == 0 })
}

// term is one period for something done again and again.
type term struct {
	duty    string   // what kind, and in which form
	of      []string // sorted; none means all
	span    plan.Span
	path    string
	subject string
}

// dutyConflict compares every two periods for one duty. A narrower rule may be
// stricter than a general one, which then covers the rest; laxer, it breaks it.
func dutyConflict(c *Context) {
	terms := map[string][]term{}
	var kinds []string
	for _, t := range c.terms() {
		if terms[t.duty] == nil {
			kinds = append(kinds, t.duty)
		}
		terms[t.duty] = append(terms[t.duty], t)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		all := terms[kind]
		slices.SortFunc(all, func(a, b term) int { return strings.Compare(a.subject, b.subject) })
		general, narrow := byScope(all)
		for _, same := range general {
			c.conflict(kind, same)
		}
		c.laxer(kind, general, narrow)
	}
}

// byScope groups terms that are about exactly the same things, and lists those
// that are about some things only.
func byScope(all []term) (same map[string][]term, narrow []term) {
	same = map[string][]term{}
	for _, t := range all {
		key := strings.Join(t.of, "\x00")
		same[key] = append(same[key], t)
		if len(t.of) > 0 {
			narrow = append(narrow, t)
		}
	}
	return same, narrow
}

// conflict reports terms of one scope that differ.
func (c *Context) conflict(kind string, same []term) {
	var words, subjects, paths []string
	for _, t := range same {
		word := fmt.Sprintf("%s says %q", t.subject, t.span)
		if !slices.Contains(words, word) {
			words, subjects, paths = append(words, word), append(subjects, t.subject), append(paths, t.path)
		}
	}
	if !disagree(same) {
		return
	}
	c.Report(paths[0], listed(subjects), "For the %s, %s.", kind, listed(words)).With(paths[1:]...)
}

func disagree(same []term) bool {
	for _, t := range same[1:] {
		if t.span.Vague() != same[0].span.Vague() || t.span.Longest() != same[0].span.Longest() {
			return true
		}
	}
	return false
}

// laxer reports narrow terms that give more time than the general rule.
func (c *Context) laxer(kind string, same map[string][]term, narrow []term) {
	for _, general := range same[""] {
		for _, t := range narrow {
			if general.span.Known() && t.span.Known() && t.span.Longest() > general.span.Longest() {
				c.Report(t.path, t.subject+" and "+general.subject, "For the %s, %s says %q of all, and %s says %q, which is longer.", kind, general.subject, general.span, t.subject, t.span).
					With(general.path)
			}
		}
	}
}

// terms lists every period for something done again and again, wherever the
// plan says it.
func (c *Context) terms() (out []term) {
	add := func(duty string, of []string, span plan.Span, path, subject string) {
		if !span.IsZero() {
			of = slices.Compact(slices.Sorted(slices.Values(of)))
			out = append(out, term{strings.ReplaceAll(duty, "-", " "), of, span, path, subject})
		}
	}
	for i, d := range c.Duties {
		kind, span, field := d.Kind, d.Every, "every"
		if kind == "post-incident-review" {
			span, field = d.Within, "within"
		}
		if d.Form != "" {
			kind = d.Form + " " + kind
		}
		add(kind, d.Of, span, at("duties", i, field), about("duty", d.Name))
	}
	for i, b := range c.Backups {
		add("backup-test", []string{b.Name}, b.TestEvery, at("backups", i, "test_every"), about("backup", b.Name))
	}
	for i, r := range c.Runbooks {
		add("runbook-review", []string{r.Name}, r.ReviewEvery, at("runbooks", i, "review_every"), about("runbook", r.Name))
	}
	for i, s := range c.Suppliers {
		add("supplier-review", []string{s.Name}, s.ReviewEvery, at("suppliers", i, "review_every"), about("supplier", s.Name))
	}
	for i, n := range c.Notices {
		if n.To == "clients" {
			add("client-update", []string{n.Name}, n.UpdateEvery, at("notices", i, "update_every"), about("notice", n.Name))
		}
	}
	return out
}
