package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// bookRules judge the steps of runbooks that a machine can read.
var bookRules = []Rule{
	{
		ID: "runbook-step-unbounded", Title: "A step of a runbook may take for ever", Group: "sequence", Severity: Warning,
		Why:   "Whoever follows it at night does not know when to stop waiting and do something else, and a recovery that carries it out would wait with it.",
		Mend:  "Write bound: with the longest time after which it has failed.",
		check: bookStepUnbounded,
	},
	{
		ID: "runbook-step-unknown", Title: "A step of a runbook names what does not exist", Group: "sequence", Severity: Error,
		Why:   "A command that was renamed and a node that was given back are found at night, by whoever types them.",
		Mend:  "Write the command as foundry --help shows it, and nodes, functions and probes as the plan names them.",
		check: bookStepUnknown,
	},
	{
		ID: "runbook-step-needs-lost", Title: "A step of a runbook needs what is lost", Group: "sequence", Severity: Error,
		Why:   "A runbook is read when its scenario has happened. A step that needs the node or the function which that scenario takes away cannot be done.",
		Mend:  "Do it from another node, or with a copy that does not fall with it.",
		check: bookStepNeedsLost,
	},
}

// eachBookStep calls do for every step of every runbook, with what it is about
// and where it stands in words. Runbooks that cannot be read have been refused.
func (c *Context) eachBookStep(do func(i int, s *plan.BookStep, subject, says string)) {
	for i := range c.Runbooks {
		b := &c.Runbooks[i]
		steps, _ := c.BookSteps(b.Name)
		for k := range steps {
			s := &steps[k]
			do(i, s, about("runbook", b.Name)+" step "+fmt.Sprintf("%q", s.Name), fmt.Sprintf("Step %q of runbook %q (line %d)", s.Name, b.Name, s.Line))
		}
	}
}

func bookStepUnbounded(c *Context) {
	c.eachBookStep(func(i int, s *plan.BookStep, subject, says string) {
		switch {
		case s.Bound.IsZero():
			c.Report(at("runbooks", i, "file"), subject, "%s has no bound.", says)
		case !s.Bound.Known():
			c.Report(at("runbooks", i, "file"), subject, "%s has the bound %q, which is no number.", says, s.Bound.String())
		}
	})
}

func bookStepUnknown(c *Context) {
	c.eachBookStep(func(i int, s *plan.BookStep, subject, says string) {
		where := at("runbooks", i, "file")
		if s.Node != "" && c.Node(s.Node) == nil {
			c.Report(where, subject, "%s is done at node %q, which the plan does not list.", says, s.Node)
		}
		for _, name := range s.Uses {
			if c.Function(name) == nil {
				c.Report(where, subject, "%s uses function %q, which the plan does not list.", says, name)
			}
		}
		for _, command := range []string{s.Run, s.Verify} {
			if strings.HasPrefix(command, "foundry ") && c.Commands != nil && !c.isCommand(command) {
				c.Report(where, subject, "%s runs %q, and foundry has no such command.", says, command)
			}
		}
		if p, _ := c.Probe(s.Verify); p == nil && !strings.HasPrefix(s.Verify, "foundry ") {
			c.Report(where, subject, "%s is verified by %q, which is neither a foundry command nor a probe of the plan.", says, s.Verify)
		}
	})
}

// isCommand reports whether the words of a command begin with one that there
// is.
func (c *Context) isCommand(command string) bool {
	return slices.ContainsFunc(c.Commands, func(known string) bool {
		return command == known || strings.HasPrefix(command, known+" ")
	})
}

// doneElsewhere are the steps that are done about a lost node, not at it.
var doneElsewhere = []string{"detect", "confirm", "declare", "fence", "isolate", "capture", "investigate", "notify", "decide", "approve", "provision", "failback", "wipe", "review"}

func bookStepNeedsLost(c *Context) {
	outcomes := map[int]*plan.Outcome{} // of scenarios, by their place
	c.eachBookStep(func(i int, s *plan.BookStep, subject, says string) {
		if s.Node == "" && len(s.Uses) == 0 {
			return
		}
		for k := range c.Scenarios {
			x := &c.Scenarios[k]
			if !c.readIn(&c.Runbooks[i], x) {
				continue
			}
			if outcomes[k] == nil {
				o := c.fallsIn(x)
				outcomes[k] = &o
			}
			o := outcomes[k]
			gone := slices.ContainsFunc(slices.Concat(o.Lost, o.Also), func(t plan.Thing) bool { return t.Kind == plan.KindNode && t.Name == s.Node })
			if gone && !slices.Contains(doneElsewhere, s.Kind) {
				c.Report(at("runbooks", i, "file"), subject, "%s is done at node %q, which is lost in scenario %q.", says, s.Node, x.Name).With(at("scenarios", k, "loses"))
			}
			for _, f := range o.Functions {
				if f.State == plan.Down && slices.Contains(s.Uses, f.Name) {
					c.Report(at("runbooks", i, "file"), subject, "%s uses function %q, which is down in scenario %q.", says, f.Name, x.Name).With(at("scenarios", k, "loses"))
				}
			}
		}
	})
}

// readIn reports whether a runbook is read in a scenario: it names it, or a
// recovery plan of the scenario names the runbook.
func (c *Context) readIn(b *plan.Runbook, s *plan.Scenario) bool {
	if slices.Contains(b.For, s.Name) {
		return true
	}
	return slices.ContainsFunc(s.Recovery, func(name string) bool {
		r := c.RecoveryPlan(name)
		return r != nil && slices.ContainsFunc(r.Steps, func(x plan.Step) bool { return x.Runbook == b.Name })
	})
}

// fallsIn is what a scenario takes away.
func (c *Context) fallsIn(s *plan.Scenario) plan.Outcome {
	var things []plan.Thing
	gone, _ := c.lose(s.Loses)
	for t := range gone {
		things = append(things, t)
	}
	slices.SortFunc(things, func(a, b plan.Thing) int { return strings.Compare(a.String(), b.String()) })
	return c.Falls(c.Measured, things...)
}
