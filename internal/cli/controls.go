package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

// standingError ends a command with a code that tells the worst state, after
// its output.
type standingError struct{ code int }

func (e standingError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// standingCodes are the exit codes by the worst state. Those of errors begin at 64.
var standingCodes = map[evidence.State]int{evidence.Passing: 0, evidence.Failing: 1, evidence.Overdue: 2, evidence.Unclear: 3}

const standingHelp = "\n\nThe exit code tells the worst state: 0 all pass, 1 one fails, 2 one is overdue,\n3 one is inconclusive."

func (a *app) controls() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List controls and how they stand", Args: exactly(),
		Long: "Lists every control with its state. A control without fresh evidence is overdue,\nnever passing." + standingHelp,
		Example: `  foundry controls list
  foundry controls list --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []evidence.Status
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/controls", nil, &out); err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { tableOfControls(w, out) }); err != nil {
				return err
			}
			return worstOf(out)
		},
	}
	history := 0
	show := &cobra.Command{
		Use: "show CONTROL", Short: "Show a control with its evidence", Args: exactly("CONTROL"),
		Long: "Shows what a control promises, what is checked, what was and what was not covered\nby the latest observations." + standingHelp,
		Example: `  foundry controls show O-08
  foundry controls show O-08 --history 20 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/controls/" + url.PathEscape(args[0])
			var s evidence.Status
			if err := a.call(cmd.Context(), http.MethodGet, path, nil, &s); err != nil {
				return err
			}
			if history > 0 {
				if err := a.call(cmd.Context(), http.MethodGet, fmt.Sprintf("%s/evidence?limit=%d", path, history), nil, &s.Evidence); err != nil {
					return err
				}
			}
			if err := a.print(s, func(w io.Writer) { describeControl(w, s) }); err != nil {
				return err
			}
			return worstOf([]evidence.Status{s})
		},
	}
	show.Flags().IntVar(&history, "history", 0, "show this many observations, the newest first, instead of the latest run's")
	return group("controls", "Promises, their checks and the evidence", list, a.controlsRun(), show, a.controlsAttest(), a.controlsRetire())
}

func (a *app) controlsRun() *cobra.Command {
	return &cobra.Command{
		Use: "run [CONTROL…]", Short: "Run controls now",
		Long: "Runs the named controls, or every one that a machine checks, and waits for them." + standingHelp,
		Example: `  foundry controls run
  foundry controls run O-08 O-09 --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var job evidence.Job
			if err := a.call(ctx, http.MethodPost, "/api/v1/control-runs", map[string]any{"controls": args}, &job); err != nil {
				return err
			}
			if err := a.awaitRun(ctx, &job); err != nil {
				return err
			}
			var all, out []evidence.Status
			if err := a.call(ctx, http.MethodGet, "/api/v1/controls", nil, &all); err != nil {
				return err
			}
			for _, s := range all {
				if slices.Contains(job.Controls, s.ID) {
					out = append(out, s)
				}
			}
			if err := a.print(out, func(w io.Writer) { tableOfControls(w, out) }); err != nil {
				return err
			}
			if job.Error != "" {
				return problem.New(problem.Conflict, "control-not-run", "Not every control was run: "+job.Error).WithMend("Run it again in a moment.")
			}
			return worstOf(out)
		},
	}
}

// awaitRun follows a run to its end and shows a person how far it is.
func (a *app) awaitRun(ctx context.Context, job *evidence.Job) error {
	person := terminal(a.err) && !a.json
	for job.Ended == nil {
		if person {
			done, now := 0, ""
			for _, c := range job.Controls {
				switch p := job.Progress[c]; p {
				case "done":
					done++
				case "waiting":
				default:
					now = c + " " + p
				}
			}
			fmt.Fprintf(a.err, "\r\033[K%d of %d  %s", done, len(job.Controls), now)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := a.call(ctx, http.MethodGet, "/api/v1/control-runs/"+job.ID.String(), nil, job); err != nil {
			return err
		}
	}
	if person {
		fmt.Fprint(a.err, "\r\033[K")
	}
	return nil
}

func (a *app) controlsAttest() *cobra.Command {
	var owner, statement, until string
	c := &cobra.Command{
		Use: "attest CONTROL", Short: "Answer for a control that no machine can check", Args: exactly("CONTROL"),
		Long:    "Records that somebody answers for a control, until a date. The owner is a role or\nan account's id: evidence is kept for ever and holds no names.",
		Example: `  foundry controls attest O-07.escrow --owner platform-security --statement "Sealed copy in the bank's safe, tried on 3 November" --until 2027-06-30`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]any{"owner": owner, "statement": statement}
			if until != "" {
				day, err := time.Parse(time.DateOnly, until)
				if err != nil {
					return problem.New(problem.Invalid, "date", fmt.Sprintf("%q is not a date.", until)).WithField("until").WithMend("Write it as 2027-06-30.")
				}
				in["expires_at"] = day.AddDate(0, 0, 1)
			}
			var o evidence.Observation
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/controls/"+url.PathEscape(args[0])+"/attestations", in, &o); err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) {
				fmt.Fprintf(w, "%s answers for %s until %s.\n", o.Owner, o.Control, o.Expires.UTC().Add(-time.Second).Format(time.DateOnly)) // the last day
			})
		},
	}
	c.Flags().StringVar(&owner, "owner", "", "who answers for it: a role or an account's id")
	c.Flags().StringVar(&statement, "statement", "", "what is so, in words")
	c.Flags().StringVar(&until, "until", "", "last day that it counts (default: as late as the control allows)")
	_ = c.MarkFlagRequired("owner")
	_ = c.MarkFlagRequired("statement")
	return c
}

func (a *app) controlsRetire() *cobra.Command {
	return &cobra.Command{
		Use: "retire NODE", Short: "Expect no more evidence of a node that is gone", Args: exactly("NODE"),
		Long:    "A node that is gone for good leaves its controls overdue. This ends that; a node\nthat comes back is expected again by itself.",
		Example: "  foundry controls retire node:2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/control-scopes/"+url.PathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"retired": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "No more evidence is expected of %s.\n", args[0]) })
		},
	}
}

// worstOf turns the worst state into an exit code.
func worstOf(all []evidence.Status) error {
	worst := evidence.Passing
	for _, s := range all {
		if slices.Index(evidence.States, s.State) > slices.Index(evidence.States, worst) {
			worst = s.State
		}
	}
	if code := standingCodes[worst]; code != 0 {
		return standingError{code}
	}
	return nil
}

func tableOfControls(w io.Writer, all []evidence.Status) {
	fmt.Fprintln(w, "CONTROL\tSTATE\tOBSERVED\tPROMISE\tWHY")
	for _, s := range all {
		state := string(s.State)
		if s.Running {
			state += " (running)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.ID, state, moment(s.Since), s.Title, shortened(s.Reason, 90))
	}
}

func describeControl(w io.Writer, s evidence.Status) {
	fmt.Fprintf(w, "%s\t%s\nstate\t%s\nwhy\t%s\nsource\t%s\nchecks\t%s\n", s.ID, s.Title, s.State, s.Reason, s.Source, s.Checks)
	if s.Kind == "check" {
		fmt.Fprintf(w, "collector\t%s %s, every %s, counts for %s\nnext run\t%s\n", s.Collector, s.Version, s.Every, s.Fresh, moment(s.Next))
	}
	if !s.Until.IsZero() {
		fmt.Fprintf(w, "fresh until\t%s\n", moment(s.Until))
	}
	for _, o := range s.Evidence {
		fmt.Fprintf(w, "\n%s\t%s %s\n  observed\t%s\n  why\t%s\n", o.Result, o.Scope, o.Subject, moment(o.Observed), o.Reason)
		for _, c := range o.Covered {
			fmt.Fprintf(w, "  covered\t%s\n", c)
		}
		for _, c := range o.NotCovered {
			fmt.Fprintf(w, "  not covered\t%s\n", c)
		}
		fmt.Fprintf(w, "  SHA-256\t%x\n  signed by\t%s\n  audit entry\tevidence.observe %s\n", []byte(o.Hash), o.Signer, o.Run)
	}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return strings.TrimSpace(string(r[:n-1])) + "…"
	}
	return s
}
