package cli

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

// probeFlags are what a look by hand is given.
type probeFlags struct {
	timeout                        time.Duration
	ca, user, password, key, hosts string
	controls, nameservers          []string
}

// probe looks once, from here, without a node.
func (a *app) probe() *cobra.Command {
	var f probeFlags
	c := &cobra.Command{
		Use: "probe KIND TARGET [WORD=VALUE…]", Short: "Look from here whether something works, or cannot be reached as it must not be",
		Long: probeHelp(),
		Example: `  foundry probe https https://app.example.org/healthz contains="all is well" days=14
  foundry probe https http://app.example.org
  foundry probe tls app.example.org
  foundry probe dns app.example.org answer=192.0.2.10 each=yes
  foundry probe ssh node-1.example.org
  foundry probe postgresql node-1:5432/app role=primary --user watcher --password-file password
  foundry probe unreachable node-3:5432 --control node-2:443
  foundry probe disk /var/lib/foundry free=20% --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactly("KIND", "TARGET")(cmd, args)
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
			if len(args) == 0 {
				for _, g := range probe.Grammars() {
					out = append(out, string(g.Kind)+"\t"+g.Says)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.probeOnce(cmd.Context(), f, args) },
	}
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "how long to look (default 3s; 20s for git and model)")
	c.Flags().StringVar(&f.ca, "ca", "", "PEM file with authorities that are trusted in place of the system's")
	c.Flags().StringVar(&f.user, "user", "", "who signs in: to a database, a repository")
	c.Flags().StringVar(&f.password, "password-file", "", "file with the password, token or API key")
	c.Flags().StringVar(&f.key, "key-file", "", "file with the private key, for a repository over SSH")
	c.Flags().StringVar(&f.hosts, "known-hosts", "", "file with the SSH server's own key, as of ssh-keyscan")
	c.Flags().StringArrayVar(&f.controls, "control", nil, "HOST:PORT that can be reached, for unreachable; several times for several")
	c.Flags().StringArrayVar(&f.nameservers, "nameserver", nil, "ADDRESS:PORT of a resolver to ask, for dns; several times for several")
	return c
}

// probeHelp is how every kind is written.
func probeHelp() string {
	var b strings.Builder
	b.WriteString(`Looks once at a target, from this machine, and says in a sentence what it saw. No
node is needed. Kinds and targets are those of a plan's probes.

The exit code tells what came of it: 0 it works, or cannot be reached as it must
not be; 1 it does not; 3 nothing follows from this look; 64 the target cannot be
read.

Kinds:

`)
	for _, g := range probe.Grammars() {
		b.WriteString(g.Help() + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

func (a *app) probeOnce(ctx context.Context, f probeFlags, args []string) error {
	s := probe.Spec{Name: "by hand", Kind: probe.Signal(args[0]), Target: probeTarget(args[1:]), Timeout: f.timeout}
	if _, err := probe.Parse(s.Kind, s.Target); err != nil {
		return err
	}
	env, err := f.env()
	if err != nil {
		return err
	}
	r := probe.Run(ctx, s, env)
	if err := a.print(r, func(w io.Writer) { describeLook(w, r) }); err != nil {
		return err
	}
	switch {
	case r.OK:
		return nil
	case r.Inconclusive:
		return standingError{3}
	}
	return standingError{1}
}

// probeTarget puts a target together again from words whose quotes a shell has
// taken away.
func probeTarget(args []string) string {
	out := []string{args[0]}
	for _, arg := range args[1:] {
		name, value, ok := strings.Cut(arg, "=")
		if ok && strings.ContainsAny(value, ` "\`) {
			arg = name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		}
		out = append(out, arg)
	}
	return strings.Join(out, " ")
}

// env reads what flags name.
func (f probeFlags) env() (e probe.Env, err error) {
	read := func(flag, path string) (string, error) {
		if path == "" {
			return "", nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", problem.New(problem.Invalid, "file-unreadable", "The file "+path+" cannot be read.").WithField(flag).WithMend("Name a file that you may read.").Wrap(err)
		}
		return string(text), nil
	}
	pem, err := read("--ca", f.ca)
	if err != nil {
		return e, err
	}
	if f.ca != "" {
		e.Roots, e.RootsFile = x509.NewCertPool(), f.ca
		if !e.Roots.AppendCertsFromPEM([]byte(pem)) {
			return e, problem.New(problem.Invalid, "ca-unreadable", "The file "+f.ca+" holds no certificate.").WithField("--ca").WithMend("Name a PEM file with the certificate of an authority.")
		}
	}
	password, err := read("--password-file", f.password)
	if err != nil {
		return e, err
	}
	e.Control, e.Nameservers = f.controls, f.nameservers
	login := probe.Login{User: f.user, Password: strings.TrimRight(password, "\r\n"), KeyFile: f.key, KnownHosts: f.hosts}
	e.Login = func(context.Context, probe.Spec) (probe.Login, bool, error) {
		return login, login != probe.Login{}, nil
	}
	return e, nil
}

// describeLook writes a result for a person.
func describeLook(w io.Writer, r probe.Result) {
	head := "works"
	switch {
	case r.Inconclusive:
		head = "not known (" + string(r.Code) + ")"
	case !r.OK:
		head = "does not work (" + string(r.Code) + ")"
	case r.Signal == probe.Unreachable:
		head = "walled off"
	}
	fmt.Fprintf(w, "%s: %s\n", head, r.Words)
	fmt.Fprintf(w, "  took\t%s\n", r.Took.Round(100*time.Microsecond))
	for _, name := range slices.Sorted(maps.Keys(r.Facts)) {
		fmt.Fprintf(w, "  %s\t%s\n", strings.ReplaceAll(name, "_", " "), r.Facts[name])
	}
}
