package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) planCheck() *cobra.Command {
	var failOn, sarif string
	var accepted bool
	c := &cobra.Command{
		Use: "check [PLAN]", Short: "Find what is wrong with a plan, before the night on which it is needed", Args: atMostOnePlan,
		Long: `Reads a plan and says what cannot work in it, what contradicts itself and what
cannot be judged, each with its place, why it matters and how to mend it.

PLAN is a fleet file or a directory with a fleet.yaml; left out, the one here.
Findings that the plan accepts (suppress:) are counted, and shown with
--accepted.

Exit code: 0 when nothing is found at or above the level of --fail-on, 1 when
something is, 64 when the file is no plan.`,
		Example: `  foundry plan check
  foundry plan check examples/single --fail-on warning
  foundry plan check --measured drill.json
  foundry plan check --in-force
  foundry plan check --json | jq '.findings[] | .rule'
  foundry plan check --sarif plan.sarif`,
	}
	c.Flags().StringVar(&failOn, "fail-on", "error", "lowest severity that makes the exit code 1: error, warning or note")
	c.Flags().StringVar(&sarif, "sarif", "", "write SARIF 2.1.0 for code scanning into this file; - is the standard output")
	c.Flags().BoolVar(&accepted, "accepted", false, "show findings that the plan accepts, too")
	_ = c.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"error", "warning", "note"}, cobra.ShellCompDirectiveNoFileComp))
	measured, from := measuredFlag(c), a.planFrom(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		level, ok := lint.ParseSeverity(failOn)
		if !ok {
			return problem.New(problem.Invalid, "usage", fmt.Sprintf("%q is no severity.", failOn)).WithField("--fail-on").WithMend("Write error, warning or note.")
		}
		m, err := measured()
		if err != nil {
			return err
		}
		p, err := from(cmd, args)
		var mistakes *plan.Mistakes
		if errors.As(err, &mistakes) {
			return a.showMistakes(mistakes, sarif)
		} else if err != nil {
			return err
		}
		report := lint.Check(p, lint.Options{Now: time.Now(), Measured: m, Commands: commandsOf(cmd.Root())})
		if err := a.showFindings(report, p, sarif, accepted); err != nil {
			return err
		}
		if worst, found := report.Worst(); found && worst >= level {
			return standingError{1}
		}
		return nil
	}
	return c
}

// showFindings writes what was found in the form that was asked for. SARIF into a
// file leaves the text on the standard output.
func (a *app) showFindings(report *lint.Report, p *plan.Plan, sarif string, accepted bool) error {
	if sarif != "" {
		text, err := report.SARIF(p, a.version)
		if err == nil {
			err = a.writeFile(sarif, text)
		}
		if err != nil || sarif == "-" {
			return err
		}
	}
	if a.json {
		return a.print(report, nil)
	}
	return report.Text(a.out, p, lint.Style{Color: colored(a.out), Suppressed: accepted})
}

// showMistakes says why a file is no plan, in the form that was asked for.
func (a *app) showMistakes(m *plan.Mistakes, sarif string) error {
	if sarif != "" {
		text, err := lint.SARIFMistakes(m, a.version)
		if err == nil {
			err = a.writeFile(sarif, text)
		}
		if err != nil {
			return err
		}
	}
	if a.json && sarif != "-" {
		_ = a.print(map[string]any{"path": m.File, "findings": []any{}, "mistakes": m.List}, nil)
	}
	return m
}

// colored reports whether colours are wanted where something is written
// (no-color.org).
func colored(w io.Writer) bool {
	return terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (a *app) planRules() *cobra.Command {
	return &cobra.Command{
		Use: "rules", Short: "List what a plan is checked for", Args: exactly(),
		Example: "  foundry plan rules\n  foundry plan rules --json",
		RunE: func(*cobra.Command, []string) error {
			rules := lint.Rules()
			return a.print(rules, func(w io.Writer) {
				for _, r := range rules {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ID, r.Severity, r.Group, r.Title)
				}
			})
		},
	}
}

func (a *app) planExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain RULE", Short: "Explain a rule, with a plan that breaks it and how that is mended", Args: exactly("RULE"),
		Example: "  foundry plan explain rpo-unreachable",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
			if len(args) == 0 {
				for _, r := range lint.Rules() {
					out = append(out, r.ID+"\t"+r.Title)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			rule, err := lint.RuleNamed(args[0])
			if err != nil {
				return unknownRule(args[0])
			}
			example, err := rule.Example()
			if err != nil {
				return err
			}
			out := struct {
				lint.Rule
				Example lint.Example `json:"example"`
			}{rule, example}
			return a.print(out, func(w io.Writer) { explainRule(w, rule, example) })
		},
	}
}

func explainRule(w io.Writer, r lint.Rule, e lint.Example) {
	fmt.Fprintf(w, "%s (%s, %s): %s.\n\n%s\n\nMend: %s\n", r.ID, r.Severity, r.Group, r.Title, r.Why, r.Mend)
	if r.Source != "" {
		fmt.Fprintf(w, "\nSource: %s\n", r.Source)
	}
	if e.Fails != "" {
		fmt.Fprintf(w, "\nA plan that breaks it:\n\n%s\nWhat is said of it:\n\n%s\nMended:\n\n%s", indented(e.Fails), indented(e.Report), indented(e.Diff))
	}
}

func indented(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			out.WriteString("    ")
		}
		out.WriteString(line)
	}
	return out.String()
}

func unknownRule(id string) error {
	var ids []string
	for _, r := range lint.Rules() {
		ids = append(ids, r.ID)
	}
	e := problem.New(problem.NotFound, "rule-unknown", fmt.Sprintf("There is no rule %q.", id)).WithMend("`foundry plan rules` lists them.")
	if near := config.Nearest(id, ids); near != "" {
		e.Mend = fmt.Sprintf("Did you mean %q?", near)
	}
	return e
}

func (a *app) planSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of plans, for completion and checks in editors", Args: exactly(),
		Long: `Prints the JSON Schema of the fleet file. An editor that reads YAML with
schemas completes fields and explains them when the file begins with

  # yaml-language-server: $schema=plan.schema.json`,
		Example: "  foundry plan schema > plan.schema.json",
		RunE: func(*cobra.Command, []string) error {
			text, err := plan.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, string(text))
			return err
		},
	}
}

func (a *app) planSubjects() *cobra.Command {
	return &cobra.Command{
		Use: "subjects", Short: "List what commitments can promise", Args: exactly(),
		Example: "  foundry plan subjects",
		RunE: func(*cobra.Command, []string) error {
			subjects := plan.Subjects()
			return a.print(subjects, func(w io.Writer) {
				fmt.Fprintln(w, "SUBJECT\tBOUND\tOF\tPROMISES")
				for _, s := range subjects {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Unit, s.Of, s.Says)
				}
			})
		},
	}
}

func (a *app) planDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff OLD NEW", Short: "Say in sentences what changed between two plans", Args: exactly("OLD", "NEW"),
		Long: `Says what changed between two plans, which clocks became tighter or looser, and
whether nodes, suppliers or people changed, so that a review is due. Comments,
the order of lists and the spelling of values are no change.`,
		Example: "  foundry plan diff approved/fleet.yaml fleet.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			var plans [2]*plan.Plan
			for i, path := range args {
				p, err := plan.Load(path)
				if err != nil {
					return err
				}
				plans[i] = p
			}
			out := struct {
				Old     string        `json:"old_hash"`
				New     string        `json:"new_hash"`
				Review  bool          `json:"review"`
				Changes []plan.Change `json:"changes"`
			}{Old: plans[0].Hash(), New: plans[1].Hash(), Changes: append([]plan.Change{}, plan.Diff(plans[0], plans[1])...)}
			clocks := map[string]int{}
			for _, c := range out.Changes {
				out.Review = out.Review || c.Review
				clocks[c.Clock]++
			}
			return a.print(out, func(w io.Writer) {
				for _, c := range out.Changes {
					fmt.Fprintln(w, c.Sentence)
				}
				if len(out.Changes) == 0 {
					fmt.Fprintln(w, "The plans say the same.")
					return
				}
				fmt.Fprintf(w, "\nChanges: %d. Clocks that became tighter: %d, looser: %d.\n", len(out.Changes), clocks[plan.Tighter], clocks[plan.Looser])
				if out.Review {
					fmt.Fprintln(w, "Nodes, suppliers or people changed: a review is due.")
				}
			})
		},
	}
}

func (a *app) planHash() *cobra.Command {
	return &cobra.Command{
		Use: "hash [PLAN]", Short: "Print the hash of what a plan says", Args: atMostOnePlan,
		Long: `Prints the SHA-256 of what a plan says, by which it is approved and read.
Comments, the order of lists and the spelling of values do not change it.`,
		Example: "  foundry plan hash\n  foundry plan hash approved/fleet.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := loadPlan(args)
			if err != nil {
				return err
			}
			out := map[string]string{"path": p.Path, "hash": p.Hash()}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, out["hash"]) })
		},
	}
}
