package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/apart"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) fleetGroup() *cobra.Command {
	return group("fleet", "See what is lost and who says so", a.fleetShow(), a.fleetLosses(), a.fleetMarks(), a.fleetApart())
}

func (a *app) fleetShow() *cobra.Command {
	var follow time.Duration
	c := &cobra.Command{
		Use: "status", Short: "Show nodes and functions, and what is held of each in words", Args: exactly(),
		Long: `Shows every node and every function of the plan in force: fine, suspected, lost
or not to be known, since when, and who sees it by what. It needs neither the
database nor a majority; what is old says how old it is.

The command fails with exit code 69 while nothing can be decided, and with 1
while anything is lost.`,
		Example: "  foundry fleet status\n  foundry fleet status --watch 2s\n  foundry fleet status --json | jq '.nodes[] | {name, state: .verdict.state, words: .verdict.words}'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				var p fleet.Picture
				if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/fleet/picture", nil, &p); err != nil {
					if follow > 0 && cmd.Context().Err() != nil { // interrupted: that is how it ends
						return nil
					}
					return err
				}
				if follow > 0 && terminal(a.out) {
					fmt.Fprint(a.out, "\033[H\033[2J")
				}
				if err := a.print(p, func(w io.Writer) { pictureInWords(w, p) }); err != nil {
					return err
				}
				if follow <= 0 {
					return standingOf(p)
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(max(follow, 200*time.Millisecond)):
				}
			}
		},
	}
	c.Flags().DurationVar(&follow, "watch", 0, "show it again every so often, until Ctrl-C")
	return c
}

func standingOf(p fleet.Picture) error {
	if !p.Majority {
		return standingError{problem.Unavailable.Exit()}
	}
	lost := func(v verdict.Verdict) bool { return v.State == verdict.Lost }
	if slices.ContainsFunc(p.Nodes, func(n fleet.NodeView) bool { return lost(n.Verdict) }) || slices.ContainsFunc(p.Functions, func(f fleet.FunctionView) bool { return lost(f.Verdict) }) {
		return standingError{1}
	}
	return nil
}

func pictureInWords(w io.Writer, p fleet.Picture) {
	fmt.Fprintln(w, p.Words)
	if !p.Majority && !p.Known.IsZero() {
		fmt.Fprintf(w, "A majority was last heard %s ago, at %s.\n", time.Since(p.Known).Round(time.Second), p.Known.Local().Format(time.TimeOnly))
	}
	fmt.Fprintln(w, "\nNODE\tIS\tSINCE\tWHY")
	for _, n := range p.Nodes {
		name := n.Name
		if n.Self {
			name += " (this node)"
		}
		if n.Leader {
			name += " (leads)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, stateWord(n.Verdict), sinceWord(n.Verdict), n.Verdict.Words)
	}
	defer outsideInWords(w, p)
	if len(p.Functions) == 0 {
		fmt.Fprintln(w, "\nNo plan in force names functions to watch.")
		return
	}
	fmt.Fprintln(w, "\nFUNCTION\tIS\tSINCE\tWORKED\tWHY")
	for _, f := range p.Functions {
		worked := "–"
		if f.Uptime != nil {
			if ratio, known := f.Uptime.Ratio(); known {
				worked = fmt.Sprintf("%.2f %%", float64(int(ratio*10000))/100) // a loss is never rounded away
			}
		}
		is, why := stateWord(f.Verdict), f.Verdict.Words
		if !f.Looked {
			is, why = "not watched", "the plan gives it no probes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Name, is, sinceWord(f.Verdict), worked, why)
	}
}

// outsideInWords shows what is seen of other fleets, which count nothing of it.
func outsideInWords(w io.Writer, p fleet.Picture) {
	if len(p.Outside) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOTHER FLEET\tFROM OUTSIDE\tSINCE\tWHY")
	for _, o := range p.Outside {
		is, why := stateWord(o.Verdict), o.Verdict.Words
		if !o.Looked {
			is, why = "not watched", "no node looks at it yet"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Name, is, sinceWord(o.Verdict), why)
	}
}

func stateWord(v verdict.Verdict) string {
	if v.State == "" {
		return "not judged yet"
	}
	return strings.ReplaceAll(string(v.State), "-", " ")
}

func sinceWord(v verdict.Verdict) string {
	if v.Since.IsZero() || v.State == verdict.Fine {
		return "–"
	}
	return v.Since.Local().Format(time.TimeOnly)
}

func (a *app) fleetLosses() *cobra.Command {
	return &cobra.Command{
		Use: "losses", Short: "List confirmed losses that are not in the audit log yet, with the signals", Args: exactly(),
		Example: "  foundry fleet losses\n  foundry audit list --act fleet.lost   # those that are",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []fleet.Confirmed
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/fleet/losses", nil, &all); err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "None: what was confirmed is in the audit log (foundry audit list --act fleet.lost).")
				}
				for _, c := range all {
					what := "is lost"
					if c.Ended {
						what = "is back"
					}
					fmt.Fprintf(w, "%s\t%s %s\t%s, by %s at epoch %d\n", c.At.Local().Format(time.DateTime), c.Verdict.Subject, what, c.Verdict.Words, c.By, c.Epoch)
				}
			})
		},
	}
}

func (a *app) nodeReadiness() *cobra.Command {
	return &cobra.Command{
		Use: "readiness", Short: "Show which node could take over what now, and what is missing", Args: exactly(),
		Long: `For every node that the plan names as a host or a fallback: whether it holds
what it needs (keys, authority, the way to the backups), whether it could open
it lately, and what it lacks. The command fails with exit code 1 while one that
is named could not take over.`,
		Example: "  foundry node readiness\n  foundry node readiness --json | jq '.[] | select(.state != \"ready\") | .missing'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []survivor.Readiness
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/fleet/readiness", nil, &all); err != nil {
				return err
			}
			err := a.print(all, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "The plan in force names no node that takes over from another.")
				}
				for _, r := range all {
					fmt.Fprintln(w, r.Words())
				}
			})
			if err == nil && slices.ContainsFunc(all, func(r survivor.Readiness) bool { return r.State == survivor.Lacking }) {
				err = standingError{1}
			}
			return err
		},
	}
}

func (a *app) fleetMarks() *cobra.Command {
	return &cobra.Command{
		Use: "marks", Short: "Make one-way marks of what this fleet must not share with another", Args: exactly(),
		Long: `Prints a file with a mark for every key, secret, authority and backup target of
this fleet. A mark says nothing of what it marks, and is the same for the same
thing in another fleet. It takes about 60 ms a mark, so that weak passwords
cannot be tried out fast.`,
		Example: "  foundry fleet marks > main.marks.json\n  foundry fleet apart main.marks.json nightingale.marks.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var m apart.Marks
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/fleet/marks", nil, &m); err != nil {
				return err
			}
			text, err := json.MarshalIndent(m, "", "  ")
			if err == nil {
				_, err = fmt.Fprintf(a.out, "%s\n", text)
			}
			return err
		},
	}
}

func (a *app) fleetApart() *cobra.Command {
	return &cobra.Command{
		Use: "apart MARKS MARKS", Short: "Say what two fleets share, from the marks of both", Args: exactly("MARKS", "MARKS"),
		Long: `Lays the marks of two fleets side by side. It needs no server. The command fails
with exit code 1 when they share anything.`,
		Example: "  foundry fleet apart main.marks.json nightingale.marks.json",
		RunE: func(_ *cobra.Command, args []string) error {
			var both [2]apart.Marks
			for i, name := range args {
				text, err := os.ReadFile(name)
				if err != nil {
					return problem.New(problem.NotFound, "marks-file", name+" cannot be read.").WithMend("Make it with `foundry fleet marks` on the node of that fleet.").Wrap(err)
				}
				if both[i], err = apart.Read(name, text); err != nil {
					return err
				}
			}
			shared, err := apart.Compare(both[0], both[1])
			if err != nil {
				return err
			}
			err = a.print(shared, func(w io.Writer) {
				for _, s := range shared {
					fmt.Fprintln(w, s.Words())
				}
				if len(shared) == 0 {
					fmt.Fprintf(w, "%s and %s share nothing: %d and %d marks, of %s and %s.\n", both[0].Fleet, both[1].Fleet, len(both[0].Marks), len(both[1].Marks),
						both[0].Made.Local().Format(time.DateTime), both[1].Made.Local().Format(time.DateTime))
				}
			})
			if err == nil && len(shared) > 0 {
				err = standingError{1}
			}
			return err
		},
	}
}
