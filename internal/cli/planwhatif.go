package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) planGraph() *cobra.Command {
	svg := ""
	c := &cobra.Command{
		Use: "graph [PLAN]", Short: "Show who depends on what, and what takes critical functions down alone", Args: atMostOnePlan,
		Long: `Shows the single points of failure of a plan, the worst first, and for every
function what it runs on, what it needs and what carries it otherwise. With
--svg it is drawn.`,
		Example: "  foundry plan graph\n  foundry plan graph examples/three --svg three.svg\n  foundry plan graph --json\n  foundry plan graph --in-force",
	}
	c.Flags().StringVar(&svg, "svg", "", "draw it into this file; - is the standard output")
	measured, from := measuredFlag(c), a.planFrom(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := from(cmd, args)
		if err != nil {
			return err
		}
		m, err := measured()
		if err != nil {
			return err
		}
		g := p.Graph()
		if svg != "" {
			return a.writeFile(svg, g.SVG(plan.Drawing{Standalone: true}))
		}
		out := struct {
			Singles []plan.Single `json:"single_points_of_failure"`
			Things  []plan.Thing  `json:"things"`
			Edges   []plan.Edge   `json:"edges"`
		}{append([]plan.Single{}, p.Singles(m)...), g.Things, g.Edges}
		return a.print(out, func(w io.Writer) { textOfGraph(w, p, g, out.Singles) })
	}
	return c
}

func textOfGraph(w io.Writer, p *plan.Plan, g *plan.Graph, singles []plan.Single) {
	fmt.Fprintln(w, "WITHOUT\tARE DOWN, AND NOTHING CARRIES THEM")
	for _, s := range singles {
		fmt.Fprintf(w, "%s\t%s\n", s.Thing, strings.Join(s.Functions, ", "))
	}
	if len(singles) == 0 {
		fmt.Fprintln(w, "nothing alone\tno critical function")
	}
	fmt.Fprintln(w, "\t")
	fmt.Fprintln(w, "FUNCTION\tRUNS ON\tNEEDS\tOTHERWISE\tBACKED UP BY")
	for _, t := range g.Things {
		if t.Kind != plan.KindFunction {
			continue
		}
		by := map[string][]string{}
		for _, e := range g.Edges {
			if e.From == t {
				by[e.Why] = append(by[e.Why], e.To.Name)
			}
		}
		place := "not said"
		if len(by["supplier"]) > 0 {
			place = strings.Join(by["supplier"], ", ") + " (supplier)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.Name, listed(by["host"], place), listed(by["needs"], "-"), listed(by["fallback"], "nothing"), listed(by["backup"], "nothing"))
	}
}

func listed(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

func (a *app) planWhatif() *cobra.Command {
	var lose []string
	all, svg := false, ""
	c := &cobra.Command{
		Use: "whatif [PLAN] --lose NAME", Short: "Say what happens when something is lost", Args: atMostOnePlan,
		Long: `Says what happens when a node, a site, a supplier, a person or a function is
lost, alone or several together: which functions stop, what carries them, when
they are back, what data may be gone, which notices are due and what nobody
covers. Numbers that the plan does not give and nothing has measured are
assumptions; they are counted.`,
		Example: `  foundry plan whatif --lose node-1
  foundry plan whatif examples/missionops --lose hetzner --lose ceo
  foundry plan whatif --lose "site helsinki" --svg loss.svg
  foundry plan whatif --all
  foundry plan whatif --in-force --lose node-1`,
	}
	c.Flags().StringArrayVar(&lose, "lose", nil, "what is lost, by name or by kind and name; may be given again")
	c.Flags().BoolVar(&all, "all", false, "lose each node, site, supplier and person in turn")
	c.Flags().StringVar(&svg, "svg", "", "draw it into this file; - is the standard output")
	measured, from := measuredFlag(c), a.planFrom(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(lose) > 0) || all && svg != "" {
			return problem.New(problem.Invalid, "usage", "It is not said what is lost.").WithField("--lose").WithMend("Name it with --lose NAME, or try everything with --all (which cannot be drawn).")
		}
		p, err := from(cmd, args)
		if err != nil {
			return err
		}
		m, err := measured()
		if err != nil {
			return err
		}
		if all {
			return a.whatifAll(p, m)
		}
		var lost []plan.Thing
		for _, name := range lose {
			t, err := p.Thing(name)
			if err != nil {
				return err
			}
			if !slices.Contains(lost, t) {
				lost = append(lost, t)
			}
		}
		o := p.Falls(m, lost...)
		if svg != "" {
			return a.writeFile(svg, p.Graph().SVG(plan.Drawing{Outcome: &o, Standalone: true}))
		}
		return a.print(o, func(w io.Writer) { textOfLoss(w, &o) })
	}
	_ = c.RegisterFlagCompletionFunc("lose", func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		p, err := loadPlan(args)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, t := range p.Losable() {
			names = append(names, t.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// whatifAll is every single loss, the worst first.
func (a *app) whatifAll(p *plan.Plan, m plan.Measured) error {
	out := []plan.Outcome{}
	for _, t := range p.Losable() {
		out = append(out, p.Falls(m, t))
	}
	slices.SortStableFunc(out, func(x, y plan.Outcome) int { return count(y, plan.Down) - count(x, plan.Down) })
	return a.print(out, func(w io.Writer) {
		fmt.Fprintln(w, "WITHOUT\tDOWN\tDEGRADED\tCARRIED\tNOBODY COVERS")
		for _, o := range out {
			first := "-"
			if len(o.Uncovered) > 0 {
				first = o.Uncovered[0]
			}
			if more := len(o.Uncovered) - 1; more > 0 {
				first += fmt.Sprintf(" (and %d more)", more)
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", o.Lost[0], count(o, plan.Down), count(o, plan.Degraded), count(o, plan.Carried), first)
		}
	})
}

func count(o plan.Outcome, s plan.State) (n int) {
	for _, f := range o.Functions {
		if f.State == s {
			n++
		}
	}
	return n
}

func textOfLoss(w io.Writer, o *plan.Outcome) {
	names := func(things []plan.Thing) string {
		var out []string
		for _, t := range things {
			out = append(out, t.String())
		}
		return strings.Join(out, ", ")
	}
	fmt.Fprintf(w, "Lost: %s\n", names(o.Lost))
	if len(o.Also) > 0 {
		fmt.Fprintf(w, "With it: %s\n", names(o.Also))
	}
	if len(o.Functions) == 0 {
		fmt.Fprintln(w, "\nNo function is touched.")
	} else {
		fmt.Fprintln(w, "\nFUNCTION\tIS\tBACK AFTER\tRTO\tMTD\tMAY LOSE\tRPO\tBECAUSE")
		for _, f := range o.Functions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, lossState(f), backAfter(f), spanOrDash(f.RTO), spanOrDash(f.MTD), mayLose(f), spanOrDash(f.RPO), strings.Join(f.Because, "; "))
		}
		for _, f := range o.Functions {
			for _, why := range f.Refused {
				fmt.Fprintf(w, "%s is not carried by %s.\n", f.Name, why)
			}
		}
	}
	if len(o.Notices) > 0 {
		fmt.Fprintln(w, "\nNOTICE\tTO\tWITHIN\tFROM")
		for _, n := range o.Notices {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Notice, n.To, spanOrDash(n.Within), listed([]string{n.From}, "-"))
		}
	}
	if len(o.Uncovered) > 0 {
		fmt.Fprintln(w, "\nNobody covers:")
		for _, s := range o.Uncovered {
			fmt.Fprintf(w, "  %s\n", s)
		}
	}
}

func lossState(f plan.FunctionOutcome) string {
	if f.By != "" {
		return fmt.Sprintf("%s by %s", f.State, f.By)
	}
	return string(f.State)
}

func backAfter(f plan.FunctionOutcome) string {
	if f.Recovery == nil {
		if f.State == plan.Down {
			return "never by this plan"
		}
		return "-"
	}
	out := plan.FormatDuration(f.Recovery.Total.Round(time.Minute))
	if n := len(f.Recovery.Unknown); n > 0 {
		out += fmt.Sprintf(" (%d assumed)", n)
	}
	return out
}

func mayLose(f plan.FunctionOutcome) string {
	switch {
	case f.LossSays != "":
		return "all"
	case f.Loss == nil:
		return "-"
	}
	return plan.FormatDuration(f.Loss.Total.Round(time.Second))
}

func spanOrDash(s plan.Span) string {
	if s.IsZero() {
		return "-"
	}
	return s.String()
}

// writeFile writes what was made into a file, or to the standard output for "-".
func (a *app) writeFile(path string, text []byte) error {
	if path == "-" {
		_, err := a.out.Write(text)
		return err
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return problem.New(problem.Invalid, "file-unwritable", sentence(err.Error())).WithField(path).WithMend("Name a file in a directory that you may write.").Wrap(err)
	}
	return nil
}
