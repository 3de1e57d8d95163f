// Package lint knows what can be wrong with a continuity plan. Each rule
// states a general property that any plan should have; none knows a certain
// plan. It is pure: time and measurements are given to it.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Severity is how much a finding matters.
type Severity uint8

// Severities, the worst last.
const (
	Note    Severity = iota // worth knowing; the plan can work
	Warning                 // the plan may not work, or cannot be judged
	Error                   // the plan contradicts itself or cannot work
)

var severityNames = []string{"note", "warning", "error"}

// String is the severity's name, as in SARIF.
func (s Severity) String() string { return severityNames[s] }

// MarshalText writes the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name.
func (s *Severity) UnmarshalText(text []byte) error {
	found, ok := ParseSeverity(string(text))
	if !ok {
		return fmt.Errorf("%q is no severity", text)
	}
	*s = found
	return nil
}

// ParseSeverity reads a name.
func ParseSeverity(name string) (Severity, bool) {
	i := slices.Index(severityNames, name)
	return Severity(max(i, 0)), i >= 0
}

// Rule is one property that a plan should have.
type Rule struct {
	ID       string   `json:"id"`               // stable, kebab-case
	Title    string   `json:"title"`            // what is wrong, in a few words
	Group    string   `json:"group"`            // of the reference: arithmetic, dependencies, fallbacks, sequence, clocks, security, governance
	Severity Severity `json:"severity"`         // of its findings, unless one says otherwise
	Why      string   `json:"why"`              // what happens to somebody who leaves it so; one or two sentences
	Mend     string   `json:"mend"`             // what to write instead; one or two sentences
	Source   string   `json:"source,omitempty"` // standard or clause it comes from; may be empty

	check func(*Context)
}

// Finding is one place where a rule does not hold.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject"`           // what it is about, in words that do not depend on the order of the file: `function "mail"`
	Message  string   `json:"message"`           // one sentence with the plan's own names and numbers
	Mend     string   `json:"mend"`              // what to do here
	At       string   `json:"at"`                // path of the value: functions[2].rto
	Also     []string `json:"also,omitempty"`    // paths of other values it contradicts
	Assumes  []string `json:"assumes,omitempty"` // numbers that were not in the plan and not measured
	Clauses  []string `json:"clauses,omitempty"` // sources of the things it names: "bcp 4.1"

	Place plan.Place `json:"place"`

	Suppressed *plan.Suppression `json:"suppressed,omitempty"`
}

// Options is what a check knows besides the plan.
type Options struct {
	Now      time.Time // for what lapses
	Measured plan.Measured
	Commands []string // what foundry can be told to do, such as "foundry backup run"; nil: not known
}

// Report is the outcome of a check.
type Report struct {
	Path       string    `json:"path"`
	Hash       string    `json:"hash,omitempty"`
	Findings   []Finding `json:"findings"`
	Suppressed []Finding `json:"suppressed,omitempty"`
}

// Worst is the highest severity found; ok is false when there is nothing.
func (r *Report) Worst() (worst Severity, ok bool) {
	for _, f := range r.Findings {
		worst, ok = max(worst, f.Severity), true
	}
	return worst, ok
}

// Context is what a rule sees, and where it reports.
type Context struct {
	*plan.Plan
	Options

	rule     *Rule
	findings []Finding
	fate     map[string]fate     // see fates
	kinds    map[string][]string // see kindsOf
}

// Report adds a finding of the running rule. Message may use the verbs of fmt.
func (c *Context) Report(at, subject, message string, args ...any) *Finding {
	c.findings = append(c.findings, Finding{
		Rule: c.rule.ID, Severity: c.rule.Severity, Subject: subject, At: at,
		Message: fmt.Sprintf(message, args...), Mend: c.rule.Mend,
	})
	return &c.findings[len(c.findings)-1]
}

// Saying replaces the rule's general mend by one for this place.
func (f *Finding) Saying(mend string, args ...any) *Finding {
	f.Mend = fmt.Sprintf(mend, args...)
	return f
}

// With names other places that the finding is about.
func (f *Finding) With(paths ...string) *Finding {
	f.Also = append(f.Also, paths...)
	return f
}

// Assuming names numbers that were assumed.
func (f *Finding) Assuming(what ...string) *Finding {
	f.Assumes = append(f.Assumes, what...)
	return f
}

// As changes the severity of this finding.
func (f *Finding) As(s Severity) *Finding {
	f.Severity = s
	return f
}

// Rules lists every rule, in the order of the reference.
func Rules() []Rule {
	return slices.Concat(arithmeticRules, dependencyRules, fallbackRules, sequenceRules, bookRules, clockRules, securityRules, governanceRules)
}

// Check applies every rule to a plan. Findings are in the order of their
// places, then of their rules.
func Check(p *plan.Plan, o Options) *Report {
	c := &Context{Plan: p, Options: o}
	rules := Rules()
	for i := range rules {
		c.rule = &rules[i]
		c.rule.check(c)
	}
	out := &Report{Path: p.Path, Hash: p.Hash(), Findings: []Finding{}}
	for _, f := range c.findings {
		f.Place, f.Clauses = p.At(f.At), clauses(p, f)
		if f.Suppressed = suppression(p, f, o.Now); f.Suppressed != nil {
			out.Suppressed = append(out.Suppressed, f)
			continue
		}
		out.Findings = append(out.Findings, f)
	}
	order := func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Place.Column, b.Place.Column), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Subject, b.Subject), strings.Compare(a.Message, b.Message))
	}
	slices.SortStableFunc(out.Findings, order)
	slices.SortStableFunc(out.Suppressed, order)
	return out
}

// clauses are the sources of all that a finding names.
func clauses(p *plan.Plan, f Finding) []string {
	out := slices.Clone(f.Clauses)
	for _, path := range append([]string{f.At}, f.Also...) {
		out = append(out, p.SourcesAt(path)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// suppression finds what accepts a finding today.
func suppression(p *plan.Plan, f Finding, now time.Time) *plan.Suppression {
	for i := range p.Suppress {
		s := &p.Suppress[i]
		if s.Rule == f.Rule && (s.At == "" || strings.Contains(f.Subject, fmt.Sprintf("%q", s.At))) && now.Before(s.Until.End()) {
			return s
		}
	}
	return nil
}
