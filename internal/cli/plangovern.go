package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// planGoverned are the commands about the plan that a node keeps.
func (a *app) planGoverned() []*cobra.Command {
	return []*cobra.Command{a.planStatus(), a.planSubmit(), a.planRevisions(), a.planShow(), a.planApprove(), a.planReject(), a.planAcknowledge(), a.planReview(), a.planRegister(), a.planConfirm(), a.planMeasured()}
}

func (a *app) planStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say how the plan in force stands: its weakest point, margins, what waits and what lapses", Args: exactly(),
		Example: "  foundry plan status\n  foundry plan status --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s governance.Standing
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/plan", nil, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { textOfStanding(w, &s) })
		},
	}
}

func textOfStanding(w io.Writer, s *governance.Standing) {
	if s.Plan == nil {
		fmt.Fprintln(w, s.Weakest)
		fmt.Fprintln(w, "→ Hand one in with `foundry plan submit`, and have it approved.")
	} else {
		fmt.Fprintf(w, "Plan\t%s, in force since %s\n", s.Plan.Hash[:12], s.Plan.Since.Local().Format(time.DateTime))
		copiedText(w, s.Copied)
		fmt.Fprintf(w, "Weakest point\t%s\n", s.Weakest)
		fmt.Fprintf(w, "Findings\t%d\n", len(s.Findings))
	}
	for _, r := range s.Waiting {
		fmt.Fprintf(w, "Waits\trevision %s of %s has %d of %d approvals\n", r.ID, r.Submitted.Local().Format(time.DateOnly), len(r.Decisions), r.Needs)
	}
	for _, r := range s.Reviews {
		if r.Closed == nil {
			fmt.Fprintf(w, "Review due\t%s by %s: %s\n", r.ID, r.Due.Local().Format(time.DateOnly), strings.Join(r.Because, " "))
		}
	}
	if len(s.Margins) > 0 {
		fmt.Fprintln(w, "\nFUNCTION\tWOULD LOSE\tOF RPO\tBACK AFTER\tOF RTO\tOF MTD")
		for _, m := range s.Margins {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Function, expected(m.RPO, m.Loss), share(m.RPO), expected(m.RTO, m.Recovery), share(m.RTO), share(m.MTD))
		}
	}
	if len(s.Due) > 0 {
		fmt.Fprintln(w, "\nENTRY\tIS\tDUE\tOWNER")
		for _, d := range s.Due {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Title, d.State, dueOn(&d), listed([]string{d.Owner}, "-"))
		}
	}
}

func expected(c plan.Clock, e *plan.Estimate) string {
	switch {
	case e == nil:
		return "-"
	case c.Bound == 0:
		return plan.FormatDuration(e.Total.Round(time.Second))
	}
	return plan.FormatDuration(c.Expected.Round(time.Second))
}

func share(c plan.Clock) string {
	if c.Bound == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", c.Share*100)
}

func dueOn(d *governance.Due) string {
	if d.Due.IsZero() {
		return "-"
	}
	return d.Due.UTC().Format(time.DateOnly)
}

func (a *app) planSubmit() *cobra.Command {
	note := ""
	c := &cobra.Command{
		Use: "submit [PLAN] --note TEXT", Short: "Hand in a plan for approval, with the runbooks it names", Args: atMostOnePlan,
		Long: `Hands in a plan, with the runbooks that it names. It is judged, and comes into
force when as many different people as it asks for have approved it.`,
		Example: `  foundry plan submit --note "A second site for the database."`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := loadPlan(args)
			if err != nil {
				return err
			}
			in := governance.NewRevision{Text: string(p.Text), Books: map[string]string{}, Note: note}
			for name, text := range p.Books {
				in.Books[name] = string(text)
			}
			var r governance.Revision
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/plan/revisions", in, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				textOfRevision(w, &r)
				fmt.Fprintf(w, "→ `foundry plan approve %s`, by %s.\n", r.ID, people(r.Needs))
			})
		},
	}
	c.Flags().StringVar(&note, "note", "", "what changed, and why (required)")
	_ = c.MarkFlagRequired("note")
	return c
}

func people(n int) string {
	if n == 1 {
		return "one person"
	}
	return fmt.Sprintf("%d different people", n)
}

func textOfRevision(w io.Writer, r *governance.Revision) {
	fmt.Fprintf(w, "Revision\t%s\n", r.ID)
	fmt.Fprintf(w, "Hash\t%s\n", r.Hash)
	fmt.Fprintf(w, "State\t%s\n", r.State)
	copiedText(w, r.Copied)
	fmt.Fprintf(w, "Handed in\t%s by %s: %s\n", r.Submitted.Local().Format(time.DateTime), r.By, r.Note)
	fmt.Fprintf(w, "Findings\t%d errors, %d warnings, %d notes\n", r.Errors, r.Warnings, r.Notes)
	for _, d := range r.Decisions {
		word := "approved"
		if !d.Approved {
			word = "rejected"
		}
		as := ""
		if d.As != "" {
			as = " as " + d.As
		}
		fmt.Fprintf(w, "%s\t%s by %s%s %s\n", strings.ToUpper(word[:1])+word[1:], d.At.Local().Format(time.DateTime), d.By, as, d.Reason)
	}
	for _, c := range r.Changes {
		fmt.Fprintf(w, "Changes\t%s\n", c.Sentence)
	}
	for _, k := range r.Read {
		fmt.Fprintf(w, "Read\t%s by %s\n", k.At.Local().Format(time.DateTime), k.By)
	}
}

func (a *app) planRevisions() *cobra.Command {
	return &cobra.Command{
		Use: "revisions", Short: "List the revisions of the plan", Args: exactly(), Example: "  foundry plan revisions",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []governance.Revision
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/plan/revisions", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "REVISION\tIS\tHANDED IN\tAPPROVALS\tFINDINGS\tNOTE")
				for _, r := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%d\t%s\n", r.ID, r.State, r.Submitted.Local().Format(time.DateOnly), len(r.Decisions), r.Needs, r.Errors+r.Warnings+r.Notes, r.Note)
				}
			})
		},
	}
}

func (a *app) planShow() *cobra.Command {
	save := ""
	c := &cobra.Command{
		Use: "show [REVISION]", Short: "Show a revision: who approved and read it, what it changes; the one in force when none is named",
		Args: func(cmd *cobra.Command, args []string) error { return atMostOnePlan(cmd, args) },
		Example: `  foundry plan show
  foundry plan show 019ab0e2-0c5e-7000-8000-000000000001 --save plan/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := "current"
			if len(args) == 1 {
				id = args[0]
			}
			var r governance.Revision
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/plan/revisions/"+url.PathEscape(id), nil, &r); err != nil {
				return err
			}
			if save != "" {
				if err := a.savePlan(save, &r); err != nil {
					return err
				}
			}
			return a.print(r, func(w io.Writer) { textOfRevision(w, &r) })
		},
	}
	c.Flags().StringVar(&save, "save", "", "write the fleet file and its runbooks into this directory")
	return c
}

func (a *app) decide(approve bool, c *cobra.Command) *cobra.Command {
	reason := ""
	c.Args = exactly("REVISION")
	c.Flags().StringVar(&reason, "reason", "", "why")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		var r governance.Revision
		in := map[string]any{"approve": approve, "reason": reason}
		if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/plan/revisions/"+url.PathEscape(args[0])+"/decisions", in, &r); err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) { textOfRevision(w, &r) })
	}
	return c
}

func (a *app) planApprove() *cobra.Command {
	return a.decide(true, &cobra.Command{
		Use: "approve REVISION", Short: "Approve a revision of the plan",
		Long:    "Approves a revision. It comes into force when as many different people as it asks\nfor have approved it. Your second factor must be fresh: `foundry step-up`.",
		Example: "  foundry plan approve 019ab0e2-0c5e-7000-8000-000000000001 --reason 'Discussed by the board on 12 May.'",
	})
}

func (a *app) planReject() *cobra.Command {
	return a.decide(false, &cobra.Command{
		Use: "reject REVISION --reason TEXT", Short: "Reject a revision of the plan", Long: "Rejects a revision; one rejection ends it.",
		Example: "  foundry plan reject 019ab0e2-0c5e-7000-8000-000000000001 --reason 'The database has no fallback.'",
	})
}

func (a *app) planAcknowledge() *cobra.Command {
	return &cobra.Command{
		Use: "acknowledge HASH", Short: "Say that you have read the plan in force", Args: exactly("HASH"),
		Long: "Says that you have read the plan with this hash, which `foundry plan show` shows:\nwhoever read an older plan has not read this one.", Example: "  foundry plan acknowledge 3f5a…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r governance.Revision
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/plan/acknowledgements", map[string]string{"hash": args[0]}, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { fmt.Fprintf(w, "You have read the plan %s.\n", r.Hash[:12]) })
		},
	}
}

func (a *app) planReview() *cobra.Command {
	finding := ""
	c := &cobra.Command{
		Use: "review REVIEW --finding TEXT", Short: "Say what a review of the plan has found", Args: exactly("REVIEW"),
		Long:    "A change of nodes, suppliers or people opens a review: `foundry plan status` lists\nthose that are due.",
		Example: "  foundry plan review 019ab0e2-0c5e-7000-8000-000000000001 --finding 'The new node is in all runbooks.'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r governance.Review
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/plan/reviews/"+url.PathEscape(args[0]), map[string]string{"finding": finding}, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { fmt.Fprintf(w, "The review %s is closed.\n", r.ID) })
		},
	}
	c.Flags().StringVar(&finding, "finding", "", "what was looked at, and what follows (required)")
	_ = c.MarkFlagRequired("finding")
	return c
}

func (a *app) planRegister() *cobra.Command {
	return &cobra.Command{
		Use: "register", Short: "List what in the plan lapses or comes round, with its owner", Args: exactly(), Example: "  foundry plan register",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []governance.Due
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/plan/register", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ENTRY\tIS\tDUE\tOWNER\tWHAT")
				for _, d := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", d.Key, d.State, dueOn(&d), listed([]string{d.Owner}, "-"), d.Title)
				}
			})
		},
	}
}

func (a *app) planConfirm() *cobra.Command {
	done, note := "", ""
	c := &cobra.Command{
		Use: "confirm ENTRY", Short: "Say that something of the registers was done: a review, a rehearsal, a check-in", Args: exactly("ENTRY"),
		Long: "Says that an entry of `foundry plan register` was done. What ends on a date, such as\na contract, is renewed in the plan itself.",
		Example: `  foundry plan confirm "check-in person ceo"
  foundry plan confirm "duty exercise" --done 2026-05-12 --note "Minutes in the repository, exercises/2026."`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := governance.NewConfirmation{Entry: args[0], Note: note}
			if done != "" {
				at, err := time.Parse(time.DateOnly, done)
				if err != nil {
					return problem.New(problem.Invalid, "usage", fmt.Sprintf("%q is no day.", done)).WithField("--done").WithMend("Write it as 2026-05-12.")
				}
				in.Done = at
			}
			var d governance.Due
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/plan/register", in, &d); err != nil {
				return err
			}
			return a.print(d, func(w io.Writer) { fmt.Fprintf(w, "%s is %s; due again %s.\n", d.Title, d.State, dueOn(&d)) })
		},
	}
	c.Flags().StringVar(&done, "done", "", "the day on which it was done (default: now)")
	c.Flags().StringVar(&note, "note", "", "what shows it")
	return c
}

func (a *app) planMeasured() *cobra.Command {
	return &cobra.Command{
		Use: "measured", Short: "Show what this platform has measured of the plan: restore rates and proven points", Args: exactly(),
		Long:    "Shows what stands in for assumptions when the plan is judged. With --json it is a\nfile for --measured of other commands.",
		Example: "  foundry plan measured --json > measured.json\n  foundry plan check --measured measured.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s governance.Standing
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/plan", nil, &s); err != nil {
				return err
			}
			return a.print(s.Measured, func(w io.Writer) {
				fmt.Fprintf(w, "Restore rate\t%s\n", rate(s.Measured.RestoreRate))
				fmt.Fprintf(w, "Replay of the log\t%s\n", plan.FormatDuration(s.Measured.Replay.Round(time.Millisecond)))
				for name, at := range s.Measured.NewestPoint {
					fmt.Fprintf(w, "Newest proven moment of %s\t%s\n", name, at.Local().Format(time.DateTime))
				}
			})
		},
	}
}

func rate(bytes float64) string {
	if bytes <= 0 {
		return "not measured: no drill has passed"
	}
	return fmt.Sprintf("%.1f MB/s, in the last drill that passed", bytes/1e6)
}
