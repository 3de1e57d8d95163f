package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
	"github.com/spf13/cobra"
)

func (a *app) org() *cobra.Command {
	var f policyFlags
	create := &cobra.Command{
		Use: "create NAME", Short: "Make an organisation", Args: exactly("NAME"),
		Long: "Makes an organisation. Without flags its policy is the conservative default: the\nfleet's own models in the EEA, nothing to third parties.",
		Example: `  foundry org create st-mary
  foundry org create st-mary --third-parties --allow EEA,UK-adequate
  foundry org create st-mary --policy policy.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			policy := sovereignty.DefaultPolicy()
			if err := f.apply(cmd, &policy); err != nil {
				return err
			}
			var o api.Organisation
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/organisations", map[string]any{"name": args[0], "policy": policy}, &o); err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { describeOrganisation(w, o) })
		},
	}
	f.add(create)
	list := &cobra.Command{
		Use: "list", Short: "List organisations", Args: exactly(), Example: "  foundry org list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []api.Organisation
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/organisations", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tSTATUS\tALLOWED\tTHIRD PARTIES\tHIGHEST CLASS\tMADE")
				for _, o := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", o.Name, o.Status, o.Policy.Allowed, yesNo(o.Policy.ThirdParties), o.Policy.Highest, o.CreatedAt.Local().Format(time.DateOnly))
				}
			})
		},
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show an organisation and its policy", Args: exactly("NAME"), Example: "  foundry org show st-mary",
		RunE: func(cmd *cobra.Command, args []string) error {
			var o api.Organisation
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/organisations/"+url.PathEscape(args[0]), nil, &o); err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { describeOrganisation(w, o) })
		},
	}
	var g policyFlags
	policy := &cobra.Command{
		Use: "policy NAME", Short: "Change where an organisation's data may go", Args: exactly("NAME"),
		Long: "Changes the parts of the policy that flags name and leaves the others as they are;\n--policy replaces it whole.",
		Example: `  foundry org policy st-mary --third-parties --allow EEA,US --ceiling-elsewhere internal
  foundry org policy st-mary --policy policy.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/organisations/" + url.PathEscape(args[0])
			var o api.Organisation
			if err := a.call(cmd.Context(), http.MethodGet, path, nil, &o); err != nil {
				return err
			}
			if err := g.apply(cmd, &o.Policy); err != nil {
				return err
			}
			if err := a.call(cmd.Context(), http.MethodPut, path+"/policy", o.Policy, &o); err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { describeOrganisation(w, o) })
		},
	}
	g.add(policy)
	return group("org", "Organisations and where their data may go", create, list, show, policy)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func describeOrganisation(w io.Writer, o api.Organisation) {
	fmt.Fprintf(w, "%s\t%s\nid\t%s\n\n", o.Name, o.Status, o.ID)
	fmt.Fprintln(w, strings.Join(o.Text, "\n"))
}

// policyFlags are the parts of a policy that can be said in flags.
type policyFlags struct {
	file, regime, highest                     string
	ceilingOwn, ceilingNear, ceilingElsewhere string
	allow, home, features                     []string
	thirdParties                              bool
	noRetention                               string
}

func (f *policyFlags) add(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.file, "policy", "", "YAML or JSON file with the whole policy")
	fl.StringVar(&f.regime, "regime", "", "law of the exporter: UK or EU")
	fl.StringSliceVar(&f.allow, "allow", nil, "jurisdictions that data may go to: codes or EEA, EU, UK-adequate, EU-adequate")
	fl.StringSliceVar(&f.home, "home", nil, "jurisdictions that are tried first")
	fl.BoolVar(&f.thirdParties, "third-parties", false, "consent to providers outside the fleet")
	fl.StringVar(&f.highest, "highest", "", "highest data class of the organisation; requests that name none count as this")
	fl.StringVar(&f.ceilingOwn, "ceiling-own", "", "highest class for the fleet's own models")
	fl.StringVar(&f.ceilingNear, "ceiling-near", "", "highest class for third parties in the EEA or home jurisdictions")
	fl.StringVar(&f.ceilingElsewhere, "ceiling-elsewhere", "", "highest class for third parties elsewhere")
	fl.StringVar(&f.noRetention, "require-no-retention", "", "class from which third parties must keep nothing")
	fl.StringSliceVar(&f.features, "features", nil, "fields that may make a provider fetch, store or call others, e.g. image_url")
}

func (f *policyFlags) apply(cmd *cobra.Command, p *sovereignty.Policy) error {
	if f.file != "" {
		var next sovereignty.Policy
		if err := config.Load(f.file, &next); err != nil {
			return err
		}
		*p = next
	}
	set := func(name string) bool { return cmd.Flags().Changed(name) }
	var err error
	sets := func(name string, words []string, to *sovereignty.Set) {
		if set(name) && err == nil {
			if *to, err = sovereignty.ParseSet(words...); err != nil {
				err = problem.From(err).WithField("--" + name)
			}
		}
	}
	class := func(name, text string, to *sovereignty.DataClass) {
		if set(name) && err == nil {
			if *to, err = sovereignty.ParseDataClass(text); err != nil {
				err = problem.New(problem.Invalid, "data-class", fmt.Sprintf("%q is not a data class.", text)).WithField("--" + name).
					WithMend("Use public, internal, confidential or restricted.")
			}
		}
	}
	sets("allow", f.allow, &p.Allowed)
	sets("home", f.home, &p.Home)
	class("highest", f.highest, &p.Highest)
	class("ceiling-own", f.ceilingOwn, &p.Ceilings.Own)
	class("ceiling-near", f.ceilingNear, &p.Ceilings.Near)
	class("ceiling-elsewhere", f.ceilingElsewhere, &p.Ceilings.Elsewhere)
	class("require-no-retention", f.noRetention, &p.RequireNoRetention)
	if set("regime") {
		p.Regime = sovereignty.Regime(strings.ToUpper(f.regime))
	}
	if set("third-parties") {
		p.ThirdParties = f.thirdParties
	}
	if set("features") {
		p.AllowedFeatures = f.features
	}
	if err != nil {
		return err
	}
	return p.Validate()
}

func (a *app) key() *cobra.Command {
	var org, name, class, expires string
	var rpm, tpm int64
	var quiet bool
	create := &cobra.Command{
		Use: "create", Short: "Make an API key", Args: exactly(),
		Long: "Makes an API key and prints it, once: the node keeps only a hash.",
		Example: `  foundry key create --org st-mary --name ward-assistant
  export OPENAI_API_KEY=$(foundry key create --org st-mary --name app --quiet)`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := map[string]any{"organisation": org, "name": name, "requests_per_minute": rpm, "tokens_per_minute": tpm}
			if class != "" {
				in["class_floor"] = class
			}
			if expires != "" {
				t, err := parseMoment(expires)
				if err != nil {
					return err
				}
				in["expires_at"] = t
			}
			var k api.Key
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/keys", in, &k); err != nil {
				return err
			}
			if quiet && !a.json {
				_, err := fmt.Fprintln(a.out, k.Token)
				return err
			}
			return a.print(k, func(w io.Writer) {
				fmt.Fprintf(w, "Key\t%s\nid\t%s\norganisation\t%s\n\n  %s\n\nIt is shown only now.\n", k.Name, k.ID, k.OrganisationName, k.Token)
			})
		},
	}
	fl := create.Flags()
	fl.StringVar(&org, "org", daemonDefaultOrg, "organisation")
	fl.StringVar(&name, "name", "", "what uses the key")
	fl.StringVar(&class, "class-floor", "", "least data class that its requests count as")
	fl.StringVar(&expires, "expires", "", "day or moment it ends: 2026-12-31 or 2026-12-31T18:00:00Z")
	fl.Int64Var(&rpm, "rpm", 0, "requests per minute, 0 for no limit")
	fl.Int64Var(&tpm, "tpm", 0, "tokens per minute, 0 for no limit")
	fl.BoolVar(&quiet, "quiet", false, "print the key alone")
	_ = create.MarkFlagRequired("name")
	var only string
	list := &cobra.Command{
		Use: "list", Short: "List API keys", Args: exactly(), Example: "  foundry key list --org st-mary",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []api.Key
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/keys?organisation="+url.QueryEscape(only), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tORGANISATION\tNAME\tSTATUS\tCLASS FLOOR\tRPM\tTPM\tMADE")
				for _, k := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.OrganisationName, k.Name, k.Status, orDash(k.Class), limit(k.RequestsPerMinute), limit(k.TokensPerMinute), k.CreatedAt.Local().Format(time.DateOnly))
				}
			})
		},
	}
	list.Flags().StringVar(&only, "org", "", "only this organisation")
	revoke := &cobra.Command{
		Use: "revoke ID", Short: "Revoke an API key, at once and for good", Args: exactly("ID"), Example: "  foundry key revoke abcdefghij",
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if strings.HasPrefix(id, "fdy_") && len(id) > 14 {
				id = id[4:14] // the whole key was given; its id is its beginning
			}
			var k api.Key
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/keys/"+url.PathEscape(id), nil, &k); err != nil {
				return err
			}
			return a.print(k, func(w io.Writer) { fmt.Fprintf(w, "Key %s (%s) is revoked.\n", k.ID, k.Name) })
		},
	}
	c := group("key", "API keys", create, list, revoke)
	c.Long = "The API keys that clients call the platform with.\n\nThe keys that encrypt what the platform stores are another matter: see `foundry keys`."
	return c
}

const daemonDefaultOrg = "default"

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func limit(n int64) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

// parseMoment reads a day (its end is meant) or a moment.
func parseMoment(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	return time.Time{}, problem.New(problem.Invalid, "moment", fmt.Sprintf("%q is neither a day nor a moment.", text)).
		WithMend("Write 2026-12-31 or 2026-12-31T18:00:00Z.")
}
