package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) access() *cobra.Command {
	var org string
	register := &cobra.Command{
		Use: "register", Short: "Show who has access to what, since when and why", Args: exactly(),
		Long: "Lists accounts, roles, invitations, service accounts, API keys, staff grants,\ndatabase logins and users of the local socket, with the act in the audit log that\ngave each, and when it was last used.",
		Example: `  foundry access register
  foundry access register --org st-mary --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out access.RegisterReport
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/access/register?organisation="+url.QueryEscape(org), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "KIND\tID\tWHAT\tOPEN\tSINCE\tLAST USED\tWHY")
				for _, e := range out.Entries {
					why := e.Why
					if e.Unexplained != "" {
						why = "unexplained: " + e.Unexplained
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Kind, e.ID, e.What, yesNo(e.Open), momentOf(e.Since), momentOf(e.LastUsed), orDash(why))
				}
			})
		},
	}
	register.Flags().StringVar(&org, "org", "", "only this organisation")
	diff := &cobra.Command{
		Use: "diff", Short: "Compare the register of access with what is so", Args: exactly(),
		Long: "Compares who has access with the last signed picture of the register and with the\naudit log, signs a new picture, and reports what no act explains: what was written\nby hand, unknown database logins, an open socket, access unused for 90 days, reviews\nthat are overdue. The node does this every hour.\n\nThe exit code is 73 when there is a finding.",
		Example: `  foundry access diff
  foundry access diff --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out access.RegisterReport
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/access/compare", nil, &out); err != nil {
				return err
			}
			err := a.print(out, func(w io.Writer) {
				if len(out.Findings) == 0 {
					fmt.Fprintf(w, "Nothing found in %d entries.\n", len(out.Entries))
				}
				for _, f := range out.Findings {
					fmt.Fprintf(w, "%s\t%s\n\t%s\n", f.Code, f.Detail, f.Mend)
				}
			})
			if err == nil && len(out.Findings) > 0 {
				return problem.New(problem.Conflict, "register-findings", fmt.Sprintf("The register of access and what is so differ: %d findings.", len(out.Findings)))
			}
			return err
		},
	}
	return group("access", "Who has access to what", register, diff, a.accessReview())
}

func (a *app) accessReview() *cobra.Command {
	var org, title, due string
	start := &cobra.Command{
		Use: "start", Short: "Start a review of who has which access", Args: exactly(),
		Long:    "Starts a review: every access of an organisation, or of the platform, has to be kept\nor removed by a day, each by somebody whose access it is not.",
		Example: `  foundry access review start --title "second half of 2026" --due 14d`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.review(cmd, http.MethodPost, "", map[string]string{"organisation": org, "title": title, "due": due})
		},
	}
	start.Flags().StringVar(&org, "org", "", "organisation (default: one's own, or the platform)")
	start.Flags().StringVar(&title, "title", "", "name of the review")
	start.Flags().StringVar(&due, "due", "14d", "how long it may take")
	_ = start.MarkFlagRequired("title")
	var only string
	list := &cobra.Command{
		Use: "list", Short: "List reviews", Args: exactly(), Example: "  foundry access review list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []access.AccessReview
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/access/reviews?organisation="+url.QueryEscape(only), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tTITLE\tWHO DECIDES\tENTRIES\tOPEN\tREMOVED\tDUE\tOVERDUE")
				for _, v := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", v.ID, v.Title, v.Reviewers, v.Items, v.Open, v.Removed, momentOf(&v.DueAt), yesNo(v.Overdue))
				}
			})
		},
	}
	list.Flags().StringVar(&only, "org", "", "only this organisation")
	show := &cobra.Command{
		Use: "show ID", Short: "Show a review with its entries", Args: exactly("ID"), Example: "  foundry access review show 0190c2f0-0000-7000-8000-000000000001",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.review(cmd, http.MethodGet, "/"+url.PathEscape(args[0]), nil)
		},
	}
	var note string
	confirm := &cobra.Command{
		Use: "confirm ID KIND ENTRY keep|remove", Short: "Keep or remove one access", Args: exactly("ID", "KIND", "ENTRY", "keep|remove"),
		Long:    "Records a decision. Removing an access is an act of its own, for example\n`foundry key revoke`; the next review shows whether it was done.",
		Example: `  foundry access review confirm 0190c2f0-0000-7000-8000-000000000001 key abcdefghij remove --note "project ended"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var out access.ReviewItem
			in := map[string]string{"kind": args[1], "entry": args[2], "result": args[3], "note": note}
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/access/reviews/"+url.PathEscape(args[0])+"/results", in, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s %s: %s.\n", out.Kind, out.Entry, out.Result) })
		},
	}
	confirm.Flags().StringVar(&note, "note", "", "what to remember about it")
	return group("review", "Reviews of who has which access", start, list, show, confirm)
}

// review asks for a review and prints it.
func (a *app) review(cmd *cobra.Command, method, path string, in any) error {
	var v access.AccessReview
	if err := a.call(cmd.Context(), method, "/api/v1/access/reviews"+path, in, &v); err != nil {
		return err
	}
	return a.print(v, func(w io.Writer) {
		fmt.Fprintf(w, "Review\t%s\ntitle\t%s\nwho decides\t%s\ndue\t%s\nentries\t%d\nopen\t%d\n\nKIND\tENTRY\tWHAT\tRESULT\tBY\n", v.ID, v.Title, v.Reviewers, momentOf(&v.DueAt), v.Items, v.Open)
		for _, i := range v.Entries {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Kind, i.Entry, i.Summary, orDash(i.Result), orDash(i.By))
		}
	})
}
