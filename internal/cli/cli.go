// Package cli knows the command line: it translates words and flags into
// calls of a running node's local interface, and answers into text or JSON.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is what every command needs.
type app struct {
	version string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	dataDir string
	server  string
	json    bool
	done    <-chan struct{} // closed when the command was interrupted
}

// usageError marks a command line that cobra could not read.
type usageError struct{ error }

// Run executes one command line and returns the exit code (sysexits.h).
func Run(version string, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{version: version, in: in, out: out, err: errw}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a.done = ctx.Done()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var standing standingError
	if errors.As(err, &standing) {
		return standing.code
	}
	a.json = a.json || slices.Contains(args, "--json") // a wrong flag may have come before it
	return a.report(err)
}

// report shows an error once, in the form that was asked for.
func (a *app) report(err error) int {
	var usage usageError
	var p *problem.Error
	var mistakes *plan.Mistakes
	if !a.json && errors.As(err, &mistakes) {
		_ = lint.TextMistakes(a.err, mistakes, lint.Style{Color: colored(a.err)})
		return mistakes.Problem().Kind.Exit()
	}
	switch {
	case errors.As(err, &p):
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "required flag"), strings.HasPrefix(err.Error(), "if any flags in the group"), strings.HasPrefix(err.Error(), "at least one of the flags"):
		p = problem.New(problem.Invalid, "usage", sentence(err.Error())).WithMend("Run with --help to see what there is.")
	default:
		p = problem.New(problem.Internal, "failed", sentence(err.Error()))
	}
	if a.json {
		body, _ := json.MarshalIndent(p, "", "  ")
		fmt.Fprintln(a.err, string(body))
		return p.Kind.Exit()
	}
	fmt.Fprint(a.err, "error: ")
	if p.Field != "" {
		fmt.Fprintf(a.err, "%s: ", p.Field)
	}
	fmt.Fprintln(a.err, p.Detail)
	if p.Mend != "" {
		fmt.Fprintln(a.err, "  →", p.Mend)
	}
	if p.Kind == problem.Internal && p.Err != nil {
		fmt.Fprintln(a.err, "  cause:", p.Err)
	}
	return p.Kind.Exit()
}

// sentence makes cobra's fragments readable beside Foundry's own errors.
func sentence(s string) string {
	s = strings.TrimSpace(strings.SplitN(s, "\n", 2)[0])
	if s == "" {
		return "The command failed."
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "foundry",
		Short: "Sovereign AI orchestration platform",
		Long: `Foundry serves AI models to many organisations under enforced rules about
where data may go, and proves what it did.

Start a node with ` + "`foundry up`" + `; every other command talks to the node that runs
on the same data directory.`,
		SilenceErrors: true, SilenceUsage: true, Version: a.version,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.PersistentFlags().StringVar(&a.dataDir, "data-dir", envOr("FOUNDRY_DATA_DIR", ""), "the node's data directory (default ./var, or FOUNDRY_DATA_DIR)")
	root.PersistentFlags().StringVar(&a.server, "server", envOr("FOUNDRY_SERVER", ""), "act on this server, where you signed in with login (or FOUNDRY_SERVER)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddGroup(&cobra.Group{ID: "node", Title: "This node:"}, &cobra.Group{ID: "clients", Title: "People, organisations and keys:"},
		&cobra.Group{ID: "requests", Title: "Requests and cost:"})
	for _, c := range []*cobra.Command{a.up(), a.status(), a.console(), a.ca(), a.config(), a.database(), a.journal(), a.controls(), a.notify(), a.oncall(), a.audit(), a.backup(), a.breakglass(), a.recover(), a.plan(), a.serve(), a.node(), a.fleetGroup(), a.probe(), a.incident(), a.recoveryGroup(), a.exercise()} {
		c.GroupID = "node"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{a.accept(), a.login(), a.logout(), a.whoami(), a.stepUp(), a.policy(), a.person(), a.sessions(), a.serviceAccount(), a.org(), a.key(), a.keys(), a.grant(), a.access()} {
		c.GroupID = "clients"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{a.route(), a.request(), a.usage(), a.transfers(), a.budget()} {
		c.GroupID = "requests"
		root.AddCommand(c)
	}
	root.AddCommand(a.simulator(), a.reference())
	return root
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: subcommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(children...)
	return c
}

// subcommand refuses a word that is no command of a group, and names the one
// that may have been meant.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	e := problem.New(problem.Invalid, "usage", fmt.Sprintf("There is no command `%s %s`.", cmd.CommandPath(), args[0])).
		WithMend(fmt.Sprintf("Run `%s --help` to see what there is.", cmd.CommandPath()))
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if near := config.Nearest(args[0], names); near != "" {
		e.Mend = fmt.Sprintf("Did you mean `%s %s`?", cmd.CommandPath(), near)
	}
	return e
}

// flagError explains a flag that could not be read, and names the one that may
// have been meant.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageError{err}
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	near := config.Nearest(unknown.GetSpecifiedName(), names)
	if near == "" {
		return usageError{err}
	}
	return problem.New(problem.Invalid, "usage", sentence(err.Error())).WithMend(fmt.Sprintf("Did you mean --%s?", near))
}

// exactly is cobra.ExactArgs with the names of what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError{fmt.Errorf("%s is missing: use `%s`", names[len(args)], cmd.UseLine())}
		case len(args) > len(names):
			return usageError{fmt.Errorf("%q is one word too many: use `%s`", args[len(names)], cmd.UseLine())}
		}
		return nil
	}
}

// print shows v as JSON if asked, otherwise what text writes.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}
