package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/missionopsai/foundry/internal/plan/lint"
)

// groupTitles are the chapters of the reference of rules, in its order.
var groupTitles = []struct{ group, title, says string }{
	{"arithmetic", "Arithmetic", "Times and numbers that do not add up."},
	{"dependencies", "Dependencies", "What is needed in a recovery and is lost, later or waiting for it."},
	{"fallbacks", "Fallbacks", "What is meant to carry a function, and would not."},
	{"sequence", "Sequence", "Steps that are missing or in the wrong order."},
	{"clocks", "Clocks", "Periods and deadlines that nobody could keep or check."},
	{"security", "Security", "Protection that is promised and not said, and data where they should not be."},
	{"governance", "Governance", "People, papers and decisions."},
}

// writePlanRules renders the reference of the rules.
func writePlanRules(w io.Writer) error {
	rules := lint.Rules()
	fmt.Fprintf(w, "# What a plan is checked for\n\n`foundry plan check` applies %d rules to a [continuity plan](../guides/plan.md). An\nerror means that the plan contradicts itself or cannot work, a warning that it\nmay not work or cannot be judged, a note that something is worth knowing.\n", len(rules))
	fmt.Fprint(w, planOutputs)
	for _, g := range groupTitles {
		fmt.Fprintf(w, "\n## %s\n\n%s\n", g.title, g.says)
		for _, r := range rules {
			if r.Group != g.group {
				continue
			}
			if err := writePlanRule(w, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func writePlanRule(w io.Writer, r lint.Rule) error {
	e, err := r.Example()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n### %s\n\n**%s** (%s). %s\n\n%s\n", r.ID, r.Title, r.Severity, r.Why, "*Mend:* "+r.Mend)
	if r.Source != "" {
		fmt.Fprintf(w, "\n*Source:* %s.\n", strings.TrimSuffix(r.Source, "."))
	}
	if e.Fails != "" {
		fmt.Fprintf(w, "\nA plan that breaks it:\n\n```yaml\n%s```\n\n```text\n%s```\n\nMended:\n\n```diff\n%s```\n", e.Fails, e.Report, e.Diff)
	}
	return nil
}

const planOutputs = `
## Output

Text is for people; ` + "`--json`" + ` and ` + "`--sarif`" + ` are for programs, and their fields are
added to, never changed or removed. In JSON:

| field | |
| --- | --- |
| ` + "`path`, `hash`" + ` | the file, and the SHA-256 of what it says |
| ` + "`findings[]`" + ` | what was found, in the order of the file |
| ` + "`suppressed[]`" + ` | what was found and is accepted by ` + "`suppress:`" + `; the same fields, with ` + "`suppressed`" + ` |
| ` + "`….rule`, `.severity`" + ` | id of the rule; ` + "`error`, `warning` or `note`" + ` |
| ` + "`….subject`" + ` | what it is about, in words that do not depend on the order of the file |
| ` + "`….message`, `.mend`" + ` | what is wrong here, and what to write |
| ` + "`….at`, `.also[]`" + ` | paths of the values: ` + "`functions[2].rto`" + ` |
| ` + "`….place`" + ` | ` + "`line`, `column`, `length`" + `, counted from 1 in characters |
| ` + "`….assumes[]`" + ` | numbers that neither the plan nor a measurement gave |
| ` + "`….clauses[]`" + ` | sources of the things that it names |
| ` + "`mistakes[]`" + ` | in place of findings, where the file is no plan: ` + "`code`, `detail`, `mend`, `path`, `place`" + ` |

SARIF carries the same, with fingerprints of rule, subject and field, so that a
finding stays the same one when the file is reordered or numbers change.

The exit code is 0 when nothing is found at or above the level of ` + "`--fail-on`" + `
(` + "`error`" + ` unless it says otherwise), 1 when something is, 64 when the file is no
plan, and another of sysexits.h when it cannot be read.

## Accepting a finding

` + "```yaml" + `
suppress:
  - rule: one-supplier
    at: mail            # left out, every finding of the rule
    reason: The second supplier is under contract from March.
    by: owner
    until: 2027-03-31   # from the next day on it counts again
` + "```" + `
`
