package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

// whenOf shows a moment in this machine's time, or a dash.
func whenOf(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func query(name, value string) string { return "?" + name + "=" + url.QueryEscape(value) }

// findPerson resolves a person that was named by id or by address.
func (a *app) findPerson(ctx context.Context, org, who string) (access.Person, error) {
	var people []access.Person
	if err := a.call(ctx, http.MethodGet, "/api/v1/people"+query("organisation", org), nil, &people); err != nil {
		return access.Person{}, err
	}
	for _, p := range people {
		if p.ID.String() == who || p.Status == "active" && strings.EqualFold(p.Email, who) {
			return p, nil
		}
	}
	return access.Person{}, problem.New(problem.NotFound, "person-unknown", fmt.Sprintf("There is no person %q here.", who)).
		WithMend("`foundry person list` shows who there is.")
}

func (a *app) person() *cobra.Command {
	return group("person", "People, their roles and their invitations",
		a.personList(), a.personShow(), a.personBootstrap(), a.personInvite(), a.personInvitations(), a.personRoles(), a.personUnlock(), a.personRecover(), a.personDeactivate())
}

func (a *app) personList() *cobra.Command {
	var org string
	c := &cobra.Command{
		Use: "list", Short: "List people", Args: exactly(), Example: "  foundry person list\n  foundry person list --org st-mary --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []access.Person
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/people"+query("organisation", org), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tNAME\tADDRESS\tSTATUS\tFACTORS\tROLES\tLAST SIGN-IN")
				for _, p := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, p.Name, p.Email, personStatus(p), factors(p.Factors), rolesOf(p), whenOf(p.LastSignInAt))
				}
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "members of this organisation (default: everybody)")
	return c
}

func personStatus(p access.Person) string {
	if p.LockedUntil != nil {
		return "locked"
	}
	return p.Status
}

func factors(f access.Factors) string {
	var out []string
	if f.Password {
		out = append(out, "password")
	}
	if f.TOTP {
		out = append(out, "totp")
	}
	if f.Passkeys > 0 {
		out = append(out, fmt.Sprintf("%d passkeys", f.Passkeys))
	}
	return orDash(strings.Join(out, ", "))
}

func rolesOf(p access.Person) string {
	var out []string
	for _, m := range p.Memberships {
		out = append(out, m.RoleNames...)
	}
	return orDash(strings.Join(out, ", "))
}

func (a *app) personShow() *cobra.Command {
	var org string
	c := &cobra.Command{
		Use: "show PERSON", Short: "Show a person", Args: exactly("PERSON"), Example: "  foundry person show anna@example.org",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findPerson(cmd.Context(), org, args[0])
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) {
				fmt.Fprintf(w, "%s\t%s\nid\t%s\naddress\t%s\nfactors\t%s\nrecovery codes left\t%d\nlast sign-in\t%s\n", p.Name, personStatus(p), p.ID, p.Email,
					factors(p.Factors), p.Factors.RecoveryCodes, whenOf(p.LastSignInAt))
				for _, m := range p.Memberships {
					fmt.Fprintf(w, "member of\t%s: %s\n", placeName(m.Organisation), strings.Join(m.RoleNames, ", "))
				}
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "as this organisation sees them")
	return c
}

func placeName(org uuid.UUID) string {
	if org == uuid.Nil {
		return "the platform"
	}
	return org.String()
}

// invited shows an invitation that was just made: its link is shown once.
func (a *app) invited(i api.Invitation) error {
	return a.print(i, func(w io.Writer) {
		fmt.Fprintf(w, "invitation\t%s\nexpires\t%s\n\nThis link is shown once. Give it to nobody else:\n\n  %s\n", i.ID, whenOf(&i.ExpiresAt), i.URL)
	})
}

func (a *app) personBootstrap() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "bootstrap ADDRESS", Short: "Invite the first platform administrator", Args: exactly("ADDRESS"),
		Long:    "Invites the first platform administrator. It works on the server itself, and only\nwhile there is no active one: everybody else is invited by somebody who signed in.",
		Example: "  foundry person bootstrap anna@example.org --name 'Anna Ek'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				name = args[0]
			}
			var out api.Invitation
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/people/bootstrap", map[string]any{"email": args[0], "name": name}, &out); err != nil {
				return err
			}
			return a.invited(out)
		},
	}
	c.Flags().StringVar(&name, "name", "", "the person's name (default: the address)")
	return c
}

func (a *app) personInvite() *cobra.Command {
	var org, name string
	var roles []string
	c := &cobra.Command{
		Use: "invite ADDRESS", Short: "Invite a person to an organisation or to the platform", Args: exactly("ADDRESS"),
		Long: "Invites a person. The link works once, for seven days.\n\nRoles in an organisation: viewer, developer, operator, approver, auditor,\nadministrator. On the platform: platform-operator, platform-security,\nplatform-administrator.",
		Example: `  foundry person invite anna@example.org --org st-mary --role administrator
  foundry person invite bert@example.org --role platform-security --name 'Bert Holm'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				name = args[0]
			}
			var out api.Invitation
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/invitations", map[string]any{"organisation": org, "email": args[0], "name": name, "roles": roles}, &out); err != nil {
				return err
			}
			return a.invited(out)
		},
	}
	c.Flags().StringVar(&org, "org", "", "the organisation (default: the platform)")
	c.Flags().StringVar(&name, "name", "", "the person's name (default: the address)")
	c.Flags().StringSliceVar(&roles, "role", nil, "a role; may be given several times")
	_ = c.MarkFlagRequired("role") // the flag exists
	return c
}

func (a *app) personInvitations() *cobra.Command {
	var org, revoke, resend string
	c := &cobra.Command{
		Use: "invitations", Short: "List invitations, withdraw one or send it again", Args: exactly(),
		Example: "  foundry person invitations --org st-mary\n  foundry person invitations --revoke abcdefghij\n  foundry person invitations --resend abcdefghij",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case revoke != "":
				var out api.Done
				if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/invitations/"+url.PathEscape(revoke), nil, &out); err != nil {
					return err
				}
				return a.print(out, func(w io.Writer) { fmt.Fprintln(w, "withdrawn") })
			case resend != "":
				var out api.Invitation
				if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/invitations/"+url.PathEscape(resend)+"/resend", nil, &out); err != nil {
					return err
				}
				return a.invited(out)
			}
			var out []api.Invitation
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/invitations"+query("organisation", org), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tADDRESS\tROLES\tSTATUS\tEXPIRES")
				for _, i := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.ID, i.Email, orDash(strings.Join(i.RoleNames, ", ")), i.Status, whenOf(&i.ExpiresAt))
				}
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "the organisation (default: the platform)")
	c.Flags().StringVar(&revoke, "revoke", "", "withdraw the invitation with this id")
	c.Flags().StringVar(&resend, "resend", "", "put a new invitation in the place of the one with this id")
	c.MarkFlagsMutuallyExclusive("revoke", "resend")
	return c
}

func (a *app) personRoles() *cobra.Command {
	var org string
	var roles []string
	c := &cobra.Command{
		Use: "roles PERSON", Short: "Replace what a member may be; no roles end the membership", Args: exactly("PERSON"),
		Long: "Replaces a member's roles and ends their sessions: they sign in to what they may do\nnow. Without --role the membership ends, and with it the API keys that the person\nmade there and that belong to no service account.",
		Example: `  foundry person roles anna@example.org --org st-mary --role operator,auditor
  foundry person roles anna@example.org --org st-mary`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findPerson(cmd.Context(), org, args[0])
			if err != nil {
				return err
			}
			if roles == nil {
				roles = []string{}
			}
			var out access.Membership
			if err := a.call(cmd.Context(), http.MethodPut, "/api/v1/people/"+p.ID.String()+"/roles", map[string]any{"organisation": org, "roles": roles}, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", p.ID, orDash(strings.Join(out.RoleNames, ", "))) })
		},
	}
	c.Flags().StringVar(&org, "org", "", "the organisation (default: the platform)")
	c.Flags().StringSliceVar(&roles, "role", nil, "a role; may be given several times")
	return c
}

func (a *app) personUnlock() *cobra.Command {
	return &cobra.Command{
		Use: "unlock PERSON", Short: "Release a locked account before its time", Args: exactly("PERSON"), Example: "  foundry person unlock anna@example.org",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findPerson(cmd.Context(), "", args[0])
			if err != nil {
				return err
			}
			var out api.Done
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/people/"+p.ID.String()+"/unlock", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, "unlocked") })
		},
	}
}

func (a *app) personRecover() *cobra.Command {
	return &cobra.Command{
		Use: "recover PERSON", Short: "Make a link with which a person chooses anew how to sign in", Args: exactly("PERSON"),
		Long:    "Makes a link for a person who lost what they sign in with. It works once, for 24\nhours. When it is used, their password, code generator, passkeys and sessions end.",
		Example: "  foundry person recover anna@example.org",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findPerson(cmd.Context(), "", args[0])
			if err != nil {
				return err
			}
			var out api.Invitation
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/people/"+p.ID.String()+"/recover", nil, &out); err != nil {
				return err
			}
			return a.invited(out)
		},
	}
}

func (a *app) personDeactivate() *cobra.Command {
	var keep []string
	var yes bool
	c := &cobra.Command{
		Use: "deactivate PERSON", Short: "End a person with sessions, passkeys, invitations and API keys", Args: exactly("PERSON"),
		Long: "Ends a person in one act: sessions, passkeys, memberships, invitations, what runs in\ntheir name, and the API keys that they made. Keys of service accounts stay. Without\n--yes it only shows what would end. It cannot be undone: who comes back is invited anew.",
		Example: `  foundry person deactivate anna@example.org
  foundry person deactivate anna@example.org --yes --keep abcdefghij`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.findPerson(cmd.Context(), "", args[0])
			if err != nil {
				return err
			}
			method, path, body := http.MethodGet, "/footprint", any(nil)
			if yes {
				method, path, body = http.MethodPost, "/deactivate", map[string]any{"keep": keep}
			}
			var out access.Footprint
			if err := a.call(cmd.Context(), method, "/api/v1/people/"+p.ID.String()+path, body, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "sessions\t%d\npasskeys\t%d\ninvitations\t%d\nmemberships\t%d\n", out.Sessions, out.Passkeys, out.Invitations, out.Memberships)
				for _, k := range out.Keys {
					fmt.Fprintf(w, "API key\t%s %s\n", k.ID, k.Name)
				}
				if !yes {
					fmt.Fprintln(w, "\nNothing was ended. Run it again with --yes.")
				}
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	c.Flags().StringSliceVar(&keep, "keep", nil, "id of an API key that stays valid; may be given several times")
	return c
}

func (a *app) sessions() *cobra.Command {
	list := &cobra.Command{
		Use: "list [PERSON]", Short: "List open sessions of a person, or one's own", Args: cobra.MaximumNArgs(1), Example: "  foundry session list\n  foundry session list anna@example.org",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/sessions"
			if len(args) == 1 {
				p, err := a.findPerson(cmd.Context(), "", args[0])
				if err != nil {
					return err
				}
				path += query("person", p.ID.String())
			}
			var out []access.Session
			if err := a.call(cmd.Context(), http.MethodGet, path, nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tDEVICE\tPLACE\tHOW\tSINCE\tLAST SEEN\tENDS")
				for _, s := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Device, s.Place, s.Method, whenOf(&s.CreatedAt), whenOf(&s.LastSeenAt), whenOf(&s.ExpiresAt))
				}
			})
		},
	}
	var all string
	revoke := &cobra.Command{
		Use: "revoke [ID]", Short: "End a session, or all of a person", Args: cobra.MaximumNArgs(1), Example: "  foundry session revoke abcdefghij\n  foundry session revoke --all anna@example.org",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (all == "") == (len(args) == 0) {
				return problem.New(problem.Invalid, "usage", "Name one session, or a person with --all.").WithMend("`foundry session list PERSON` shows the sessions.")
			}
			if all == "" {
				var out api.Done
				if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/sessions/"+url.PathEscape(args[0]), nil, &out); err != nil {
					return err
				}
				return a.print(out, func(w io.Writer) { fmt.Fprintln(w, "ended") })
			}
			p, err := a.findPerson(cmd.Context(), "", all)
			if err != nil {
				return err
			}
			var out api.Ended
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/people/"+p.ID.String()+"/sessions", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "ended\t%d\n", out.Sessions) })
		},
	}
	revoke.Flags().StringVar(&all, "all", "", "end all sessions of this person")
	return group("session", "Who is signed in where", list, revoke)
}

func (a *app) serviceAccount() *cobra.Command {
	var org string
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a service account", Args: exactly("NAME"), Example: "  foundry service-account create ward-assistant --org st-mary",
		RunE: func(cmd *cobra.Command, args []string) error {
			var out api.Account
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/service-accounts", map[string]any{"organisation": org, "name": args[0]}, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s\t%s\n", out.ID, out.Name) })
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List service accounts of an organisation", Args: exactly(), Example: "  foundry service-account list --org st-mary",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []api.Account
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/service-accounts"+query("organisation", org), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tNAME\tSTATUS\tKEYS")
				for _, s := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", s.ID, s.Name, s.Status, s.Keys)
				}
			})
		},
	}
	assign := &cobra.Command{
		Use: "assign ID KEY", Short: "Give an API key to a service account", Args: exactly("ID", "KEY"), Example: "  foundry service-account assign 0190… abcdefghij",
		RunE: func(cmd *cobra.Command, args []string) error {
			var out api.Done
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/service-accounts/"+url.PathEscape(args[0])+"/keys", map[string]any{"key": args[1]}, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, "assigned") })
		},
	}
	end := &cobra.Command{
		Use: "deactivate ID", Short: "End a service account and its API keys", Args: exactly("ID"), Example: "  foundry service-account deactivate 0190…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var out api.Ended
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/service-accounts/"+url.PathEscape(args[0]), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "API keys ended\t%d\n", out.Keys) })
		},
	}
	for _, c := range []*cobra.Command{create, list} {
		c.Flags().StringVar(&org, "org", "", "the organisation (default: your own)")
	}
	return group("service-account", "Principals that are no people", create, list, assign, end)
}
