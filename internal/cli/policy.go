package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

// policy is who may do what. It asks no node: the built-in policies are in
// this program, and others are in files.
func (a *app) policy() *cobra.Command {
	return group("policy", "Who may do what, and why", a.policyCheck(), a.policyExplain(), a.policyTest(), a.policyRoles(), a.policyList(), a.policySchema())
}

// maxPolicyFile bounds what is read of a file of policies.
const maxPolicyFile = 256 << 10

func policySources(paths []string) ([]policy.Source, error) {
	var out []policy.Source
	for _, path := range paths {
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxPolicyFile {
			return nil, problem.New(problem.TooLarge, "policy-size", fmt.Sprintf("%s is larger than %d bytes.", path, maxPolicyFile)).WithMend("Is it the right file?")
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, problem.New(problem.Invalid, "policy-unreadable", sentence(err.Error())).WithMend("Name a file with Cedar policies.").Wrap(err)
		}
		out = append(out, policy.Source{Name: path, Text: text})
	}
	return out, nil
}

func policyEngine(paths []string) (*policy.Engine, error) {
	if len(paths) == 0 {
		return policy.Builtin()
	}
	sources, err := policySources(paths)
	if err != nil {
		return nil, err
	}
	return policy.Load(sources...)
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]...", Short: "Check policies against the schema, and that they lock nobody out",
		Long: `Check files of Cedar policies together with the built-in ones: their syntax,
that they fit the schema, and that with them somebody can still manage people,
roles and keys. A node refuses to start with policies that fail this check.`,
		Example: "  foundry policy check\n  foundry policy check policies/*.cedar",
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := policyEngine(args)
			if err != nil {
				return err
			}
			list := e.Policies()
			own := slices.DeleteFunc(slices.Clone(list), func(p policy.Policy) bool { return p.Builtin })
			out := struct {
				Digest   string          `json:"digest"`
				Builtin  int             `json:"builtin"`
				Policies []policy.Policy `json:"policies"`
			}{e.Digest(), len(list) - len(own), append([]policy.Policy{}, own...)}
			return a.print(out, func(w io.Writer) {
				for _, p := range own {
					fmt.Fprintf(w, "%s\t%s\t%s\n", p.ID, p.Effect, p.File)
				}
				fmt.Fprintf(w, "%d built-in policies and %d of your own are in order.\n", out.Builtin, len(own))
			})
		},
	}
}

// caseFlags are the flags that describe a case.
type caseFlags struct {
	c     policy.Case
	files []string
	mode  string
}

func (a *app) policyExplain() *cobra.Command {
	var f caseFlags
	c := &cobra.Command{
		Use: "explain", Short: "Explain whether a role may do something, and which policy says so", Args: exactly(),
		Example: `  foundry policy explain --role developer --action key.create
  foundry policy explain --role platform-operator --action request.list --organisation own
  foundry policy explain --role administrator --action person.invite --second-factor 20m`,
		RunE: func(*cobra.Command, []string) error {
			for _, role := range f.c.Roles {
				if _, ok := principal.ParseRole(role); !ok {
					return unknownName("role", "--role", role, roleNames())
				}
			}
			if !policy.Action(f.c.Action).Known() {
				return unknownName("action", "--action", f.c.Action, actionNames())
			}
			e, err := policyEngine(f.files)
			if err != nil {
				return err
			}
			x, err := e.Explain(f.c, f.mode)
			if err != nil {
				return caseFlag(err)
			}
			return a.print(x, func(w io.Writer) { writeExplanation(w, x) })
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&f.c.Roles, "role", nil, "role or roles of the person")
	fl.StringVar(&f.c.Action, "action", "", "what is done, for example key.create")
	fl.StringVar(&f.c.Organisation, "organisation", "", "whose it is: own, other or platform (default: where the person acts)")
	fl.StringVar(&f.c.Who, "who", "", "person, key, local, console-link or node (default person)")
	fl.StringVar(&f.c.Owner, "owner", "", "whom it belongs to, or who asked for it: self, other or nobody (default nobody)")
	fl.StringVar(&f.c.SecondFactor, "second-factor", "", "none, or how long ago one was shown, for example 20m (default just now)")
	fl.BoolVar(&f.c.Grant, "grant", false, "under a staff grant for the organisation")
	fl.StringVar(&f.mode, "mode", policy.Production, "production or development")
	fl.StringSliceVar(&f.files, "policies", nil, "files of further policies")
	_ = c.MarkFlagRequired("action")
	return c
}

// caseFlag names a case's field as the flag that sets it.
func caseFlag(err error) error {
	p := *problem.From(err)
	p.Field = "--" + strings.ReplaceAll(strings.TrimSuffix(p.Field, "s"), "_", "-")
	return &p
}

func unknownName(what, flag, name string, known []string) error {
	e := problem.New(problem.Invalid, "policy-case", fmt.Sprintf("There is no %s %q.", what, name)).WithField(flag).WithMend("`foundry policy roles` lists them.")
	if near := config.Nearest(name, known); near != "" {
		e.Mend = fmt.Sprintf("Did you mean %q?", near)
	}
	return e
}

func roleNames() (names []string) {
	for _, r := range principal.AllRoles() {
		names = append(names, r.String())
	}
	return names
}

func actionNames() (names []string) {
	for _, a := range policy.Actions() {
		names = append(names, string(a))
	}
	return names
}

// answers are the words for what was decided.
var answers = map[string]string{policy.ExpectAllow: "Allowed", policy.ExpectDeny: "Denied", policy.ExpectStepUp: "Allowed after showing a second factor again"}

func writeExplanation(w io.Writer, x policy.Explanation) {
	fmt.Fprintf(w, "%s by the policy %q.\n%s\n", answers[x.Answer], x.Policy, x.Reason)
	if x.File != "" {
		fmt.Fprintf(w, "It stands in %s.\n", x.File)
	}
	switch {
	case x.Answer == policy.ExpectDeny && x.Elsewhere:
		fmt.Fprintf(w, "The nearest role that allows it is %s in that organisation.\n", x.Nearest)
	case x.Answer == policy.ExpectDeny && x.Nearest != "":
		fmt.Fprintf(w, "The nearest role that allows it is %s.\n", x.Nearest)
	case x.Answer == policy.ExpectDeny:
		fmt.Fprintln(w, "No role allows it.")
	}
}

func (a *app) policyTest() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "test FILE...", Short: "Try policies on cases that you keep in a file",
		Long: `Ask the policies about every case of a YAML file, and fail where one is
answered differently than expected. The file names the policies it is about,
from where it is itself.`,
		Example: `  foundry policy test policies/cases.yaml

  # cases.yaml
  policies: [keys.cedar]
  cases:
    - name: developers make keys
      roles: [developer]
      action: key.create
      expect: allow
    - roles: [platform-operator]
      action: request.list
      organisation: own
      expect: deny
      policy: client-data-needs-a-grant`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var all []policy.Result
			for _, path := range args {
				results, err := testSuite(path, files)
				if err != nil {
					return err
				}
				all = append(all, results...)
			}
			failed := len(slices.DeleteFunc(slices.Clone(all), func(r policy.Result) bool { return r.Passed }))
			err := a.print(all, func(w io.Writer) { writeResults(w, all, failed) })
			if err == nil && failed > 0 {
				return problem.New(problem.Invalid, "policy-test", fmt.Sprintf("%d of %d cases were answered differently.", failed, len(all))).
					WithMend("Change the policies, or what the cases expect.")
			}
			return err
		},
	}
	c.Flags().StringSliceVar(&files, "policies", nil, "files of further policies")
	return c
}

func testSuite(path string, files []string) ([]policy.Result, error) {
	var s policy.Suite
	if err := config.Load(path, &s); err != nil {
		return nil, err
	}
	for _, f := range s.Policies {
		if !filepath.IsAbs(f) {
			f = filepath.Join(filepath.Dir(path), f)
		}
		files = append(files[:len(files):len(files)], f)
	}
	e, err := policyEngine(files)
	if err != nil {
		return nil, err
	}
	results, err := e.Test(s)
	if err != nil {
		p := *problem.From(err)
		p.Field = path + ": " + p.Field
		return nil, &p
	}
	return results, nil
}

// writeResults shows what differs, as a patch does.
func writeResults(w io.Writer, all []policy.Result, failed int) {
	for i, r := range all {
		if r.Passed {
			continue
		}
		fmt.Fprintf(w, "case %d: %s\n", i+1, cmp.Or(r.Case.Name, describe(r.Case)))
		if r.Case.Name != "" {
			fmt.Fprintf(w, "  %s\n", describe(r.Case))
		}
		fmt.Fprintf(w, "- %s\n+ %s\n  %s\n", decided(r.Case.Expect, r.Case.Policy), decided(r.Answer, r.Policy), r.Reason)
	}
	fmt.Fprintf(w, "%d of %d cases are as expected.\n", len(all)-failed, len(all))
}

func decided(answer, by string) string {
	if by == "" {
		return answer
	}
	return answer + " (" + by + ")"
}

// describe says in a line what a case is about.
func describe(c policy.Case) string {
	who := cmp.Or(c.Who, "a person")
	if len(c.Roles) > 0 {
		who = strings.Join(c.Roles, "+")
	}
	text := who + " does " + c.Action + ", organisation " + cmp.Or(c.Organisation, "own")
	if c.Grant {
		text += ", under a grant"
	}
	if c.SecondFactor != "" {
		text += ", second factor " + c.SecondFactor
	}
	if c.Owner != "" {
		text += ", owner " + c.Owner
	}
	return text
}

func (a *app) policyRoles() *cobra.Command {
	return &cobra.Command{
		Use: "roles", Short: "List every action and the roles that hold it", Args: exactly(),
		Example: "  foundry policy roles\n  foundry policy roles --json | jq '.[] | select(.roles | index(\"auditor\"))'",
		RunE: func(*cobra.Command, []string) error {
			all := policy.Permissions()
			return a.print(all, func(w io.Writer) {
				fmt.Fprintln(w, "ACTION\tROLES\tWHAT IT IS")
				for _, p := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\n", p.Action, cmp.Or(strings.Join(p.Roles, ","), "-"), p.Says)
				}
			})
		},
	}
}

func (a *app) policyList() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "list", Short: "List the policies, with their text in JSON", Args: exactly(),
		Example: "  foundry policy list\n  foundry policy list --json --policies mine.cedar",
		RunE: func(*cobra.Command, []string) error {
			e, err := policyEngine(files)
			if err != nil {
				return err
			}
			list := e.Policies()
			return a.print(list, func(w io.Writer) {
				fmt.Fprintln(w, "POLICY\tEFFECT\tWHY")
				for _, p := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\n", p.ID, p.Effect, p.Reason)
				}
			})
		},
	}
	c.Flags().StringSliceVar(&files, "policies", nil, "files of further policies")
	return c
}

func (a *app) policySchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the Cedar schema that policies are checked against", Args: exactly(),
		Example: "  foundry policy schema > foundry.cedarschema",
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.print(map[string]string{"schema": policy.Schema()}, nil)
			}
			_, err := io.WriteString(a.out, policy.Schema())
			return err
		},
	}
}

// writeRoles renders the table of roles and actions as Markdown.
func writeRoles(w io.Writer) error {
	fmt.Fprint(w, "# Roles and actions\n\nWho holds what. An organisation's roles act in their own organisation only.\nStaff of the platform need a grant for what is marked *grant*; an act marked\n*second factor* needs one shown within the last 15 minutes. Policies can forbid\nmore; `foundry policy explain` asks about a case, and docs/guides/authorisation.md\nsays how it all fits together.\n")
	noun := ""
	for _, p := range policy.Permissions() {
		if n := p.Action.Type(); n != noun {
			noun = n
			fmt.Fprintf(w, "\n## %s\n\n| action | what it is | roles | |\n| --- | --- | --- | --- |\n", noun)
		}
		var marks []string
		for _, t := range p.Traits {
			if m := marksOf[t]; m != "" {
				marks = append(marks, m)
			}
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", p.Action, p.Says, cmp.Or(strings.Join(p.Roles, ", "), "-"), strings.Join(marks, ", "))
	}
	e, err := policy.Builtin()
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\n# Policies\n\nThe built-in policies. Their text is printed by `foundry policy list --json`.\n\n| policy | effect | why |\n| --- | --- | --- |\n")
	for _, p := range e.Policies() {
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", p.ID, p.Effect, p.Reason)
	}
	return nil
}

var marksOf = map[string]string{"administrative": "second factor", "client-data": "grant", "audit-log": "grant", "own": "one's own",
	"local-always": "local socket", "node-always": "the node itself"}
