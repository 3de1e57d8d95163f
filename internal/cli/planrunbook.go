package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

func (a *app) planRunbook() *cobra.Command {
	return group("runbook", "The runbooks of a plan, and the steps in them that a machine can read", a.planRunbookList(), a.planRunbookShow())
}

// runbookOut is a runbook as it is printed.
type runbookOut struct {
	Name  string          `json:"name"`
	Title string          `json:"title,omitempty"`
	File  string          `json:"file,omitempty"`
	For   []string        `json:"for,omitempty"`
	Text  string          `json:"text,omitempty"`
	Steps []plan.BookStep `json:"steps"`
}

func (a *app) planRunbookList() *cobra.Command {
	c := &cobra.Command{
		Use: "list [PLAN]", Short: "List the runbooks of a plan", Args: atMostOnePlan,
		Example: "  foundry plan runbook list\n  foundry plan runbook list --in-force",
	}
	from := a.planFrom(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := from(cmd, args)
		if err != nil {
			return err
		}
		out := []runbookOut{}
		for _, b := range p.Runbooks {
			steps, err := p.BookSteps(b.Name)
			if err != nil {
				return err
			}
			out = append(out, runbookOut{Name: b.Name, Title: b.Title, File: b.File, For: b.For, Steps: append([]plan.BookStep{}, steps...)})
		}
		return a.print(out, func(w io.Writer) {
			fmt.Fprintln(w, "RUNBOOK\tSTEPS\tFOR\tFILE")
			for _, b := range out {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", b.Name, len(b.Steps), listed(b.For, "-"), listed([]string{b.File}, "-"))
			}
		})
	}
	return c
}

func (a *app) planRunbookShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show RUNBOOK [PLAN]", Short: "Show a runbook, and the steps in it that a machine can read",
		Long: `Shows the text of a runbook, and as a table the steps in it that a machine can
read: fenced blocks of the Markdown whose language is foundry-step. They say what
is done, for how long at most, who is needed and how it is seen that it worked.
Nothing carries them out by itself yet: people do.`,
		Example: "  foundry plan runbook show server-lost\n  foundry plan runbook show server-lost --in-force",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("it is not said which runbook: use `%s`", cmd.UseLine())}
			}
			return atMostOnePlan(cmd, args[1:])
		},
	}
	from := a.planFrom(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := from(cmd, args[1:])
		if err != nil {
			return err
		}
		b := p.Runbook(args[0])
		if b == nil {
			names := p.Names("runbook")
			slices.Sort(names)
			return problem.New(problem.NotFound, "plan-runbook-unknown", fmt.Sprintf("The plan has no runbook %q.", args[0])).WithMend("It has: " + listed(names, "none") + ".")
		}
		steps, err := p.BookSteps(b.Name)
		if err != nil {
			return err
		}
		out := runbookOut{Name: b.Name, Title: b.Title, File: b.File, For: b.For, Text: string(p.Books[b.Name]), Steps: append([]plan.BookStep{}, steps...)}
		return a.print(out, func(w io.Writer) { textOfRunbook(w, &out) })
	}
	return c
}

func textOfRunbook(w io.Writer, b *runbookOut) {
	if b.Text == "" {
		fmt.Fprintln(w, "The plan names no text for this runbook.")
		return
	}
	fmt.Fprintln(w, strings.TrimRight(b.Text, "\n"))
	if len(b.Steps) == 0 {
		return
	}
	fmt.Fprintln(w, "\nSTEP\tKIND\tBOUND\tNEEDS\tIS DONE BY\tWORKED IF")
	for _, s := range b.Steps {
		needs := "nobody"
		if s.Person {
			needs = "a person"
		}
		done := s.Run
		if done == "" {
			done = s.Do
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Kind, spanOrDash(s.Bound), needs, done, s.Verify)
	}
	fmt.Fprintln(w, "\nThese steps are carried out by people: nothing runs them by itself yet.")
}
