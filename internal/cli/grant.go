package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/spf13/cobra"
)

// grantFlags say what is asked for.
type grantFlags struct {
	org, reason, ticket, lasts, person string
	scopes                             []string
}

func (f *grantFlags) add(c *cobra.Command, longest string) {
	fl := c.Flags()
	fl.StringVar(&f.org, "org", "", "organisation whose data it is")
	fl.StringSliceVar(&f.scopes, "scope", nil, "what to open: requests, billing, audit, settings")
	fl.StringVar(&f.reason, "reason", "", "why; the client reads it")
	fl.StringVar(&f.ticket, "ticket", "", "ticket or incident that it belongs to")
	fl.StringVar(&f.lasts, "for", "", "how long, from approval: 90m, 2h (default 1h, at most "+longest+")")
	for _, name := range []string{"org", "scope", "reason", "ticket"} {
		_ = c.MarkFlagRequired(name)
	}
}

func (f *grantFlags) body() map[string]any {
	in := map[string]any{"organisation": f.org, "scopes": f.scopes, "reason": f.reason, "ticket": f.ticket}
	if f.lasts != "" {
		in["duration"] = f.lasts
	}
	if f.person != "" {
		in["person"] = f.person
	}
	return in
}

func (a *app) grant() *cobra.Command {
	var f, g grantFlags
	post := func(cmd *cobra.Command, path string, in any) error {
		var out api.Grant
		if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/grants"+path, in, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) { describeGrant(w, out) })
	}
	request := &cobra.Command{
		Use: "request", Short: "Ask for access to an organisation's data", Args: exactly(),
		Long:    "Asks for time-boxed access to an organisation's data. Somebody else has to approve\nit within 24 hours; the client sees who asked, why, and when it was used.",
		Example: `  foundry grant request --org st-mary --scope requests --ticket INC-1042 --reason "The client reports wrong sums in May."`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return post(cmd, "", f.body()) },
	}
	f.add(request, "8h")
	glass := &cobra.Command{
		Use: "break-glass", Short: "Open access without approval, on the server itself", Args: exactly(),
		Long:    "Gives a person of the platform access to an organisation's data without approval,\nfor when nobody can approve. It works only on the server's local socket, raises the\nalarm, is visible to the client, and somebody else has to review it within 24 hours.",
		Example: `  foundry grant break-glass --org st-mary --person 0190c2f0-0000-7000-8000-000000000001 --scope requests --ticket INC-1042 --reason "Patients wait, nobody of the client answers."`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return post(cmd, "/break-glass", g.body()) },
	}
	g.add(glass, "1h")
	glass.Flags().StringVar(&g.person, "person", "", "id of the person who gets in")
	_ = glass.MarkFlagRequired("person")

	var org string
	list := &cobra.Command{
		Use: "list", Short: "List staff access to organisations' data", Args: exactly(), Example: "  foundry grant list --org st-mary",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []api.Grant
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/grants?organisation="+url.QueryEscape(org), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tORGANISATION\tSTATE\tKIND\tWHO\tSCOPES\tTICKET\tASKED\tUNTIL\tLAST USED")
				for _, g := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.OrganisationName, g.State, g.Kind, who(g), scopes(g.Scopes), g.Ticket,
						g.RequestedAt.Local().Format(time.DateTime), momentOf(g.ExpiresAt), momentOf(g.LastUsedAt))
				}
			})
		},
	}
	list.Flags().StringVar(&org, "org", "", "only this organisation")
	show := &cobra.Command{
		Use: "show ID", Short: "Show one grant", Args: exactly("ID"), Example: "  foundry grant show 0190c2f0-0000-7000-8000-000000000001",
		RunE: func(cmd *cobra.Command, args []string) error {
			var out api.Grant
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/grants/"+url.PathEscape(args[0]), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { describeGrant(w, out) })
		},
	}
	step := func(verb, short string) *cobra.Command {
		var note string
		c := &cobra.Command{
			Use: verb + " ID", Short: short, Args: exactly("ID"), Example: "  foundry grant " + verb + " 0190c2f0-0000-7000-8000-000000000001",
			RunE: func(cmd *cobra.Command, args []string) error {
				return post(cmd, "/"+url.PathEscape(args[0])+"/"+verb, map[string]string{"note": note})
			},
		}
		c.Flags().StringVar(&note, "note", "", "what to remember about it")
		return c
	}
	var approvers string
	rule := &cobra.Command{
		Use: "rule ORGANISATION", Short: "Show or set who may approve staff access", Args: exactly("ORGANISATION"),
		Long: "Shows who may approve staff access to an organisation's data, or, with --approvers,\nsets it: either, organisation (its administrators and approvers alone), or\nplatform-security. Only the organisation itself can set it.",
		Example: `  foundry grant rule st-mary
  foundry grant rule st-mary --approvers organisation`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/organisations/" + url.PathEscape(args[0]) + "/grant-rule"
			var out api.GrantRule
			method, in := http.MethodGet, any(nil)
			if approvers != "" {
				method, in = http.MethodPut, map[string]string{"approvers": approvers}
			}
			if err := a.call(cmd.Context(), method, path, in, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "approvers\t%s\n", out.Approvers) })
		},
	}
	rule.Flags().StringVar(&approvers, "approvers", "", "either, organisation or platform-security")
	return group("grant", "Staff access to organisations' data", request, list, show, step("approve", "Let a grant begin"),
		step("reject", "Refuse a grant"), step("end", "End a grant at once, or withdraw a request"), step("review", "Record what a review of a break-glass grant found"), glass, rule)
}

func who(g api.Grant) string {
	if g.HolderName != "" {
		return g.HolderName + " (" + g.Holder + ")"
	}
	return g.Holder
}

func scopes(list []access.Scope) string {
	var words []string
	for _, s := range list {
		words = append(words, string(s))
	}
	return strings.Join(words, ",")
}

func momentOf(t *time.Time) string {
	if t == nil {
		return "–"
	}
	return t.Local().Format(time.DateTime)
}

func describeGrant(w io.Writer, g api.Grant) {
	fmt.Fprintf(w, "Grant\t%s\nstate\t%s\norganisation\t%s\nkind\t%s\nwho\t%s\nopens\t%s\nreason\t%s\nticket\t%s\nlasts\t%s\nasked\t%s\n",
		g.ID, g.State, g.OrganisationName, g.Kind, who(g), scopes(g.Scopes), g.Reason, g.Ticket, g.Lasts, g.RequestedAt.Local().Format(time.DateTime))
	if g.Until != nil {
		fmt.Fprintf(w, "to be approved by\t%s\n", momentOf(g.Until))
	}
	if g.Approver != "" {
		fmt.Fprintf(w, "decided\t%s by %s (%s)\n", momentOf(g.DecidedAt), g.Approver, g.ApproverSide)
	}
	if g.ExpiresAt != nil {
		fmt.Fprintf(w, "until\t%s\nlast used\t%s\n", momentOf(g.ExpiresAt), momentOf(g.LastUsedAt))
	}
	if g.EndedAt != nil {
		fmt.Fprintf(w, "ended\t%s by %s\n", momentOf(g.EndedAt), g.EndedBy)
	}
	if g.ReviewedAt != nil {
		fmt.Fprintf(w, "reviewed\t%s by %s\n", momentOf(g.ReviewedAt), g.ReviewedBy)
	}
	if g.Finding != "" {
		fmt.Fprintf(w, "found\t%s\n", g.Finding)
	}
	if g.Note != "" {
		fmt.Fprintf(w, "note\t%s\n", g.Note)
	}
}
