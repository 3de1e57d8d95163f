package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// planFrom adds --in-force to a command that reads a plan; the function reads
// the plan that the arguments name, or the one in force.
func (a *app) planFrom(c *cobra.Command) func(cmd *cobra.Command, args []string) (*plan.Plan, error) {
	inForce := c.Flags().Bool("in-force", false, "the plan in force, as the node keeps it, in place of a file")
	return func(cmd *cobra.Command, args []string) (*plan.Plan, error) {
		if !*inForce {
			return loadPlan(args)
		}
		if len(args) > 0 {
			return nil, problem.New(problem.Invalid, "usage", "Two plans are named.").WithField("--in-force").WithMend("Name a file, or write --in-force.")
		}
		var r governance.Revision
		if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/plan/revisions/current", nil, &r); err != nil {
			return nil, err
		}
		if r.Copied != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "The database is away: this is the node's copy of the plan, of %s.\n", r.Copied.Local().Format(time.DateTime))
		}
		p, err := plan.Parse("fleet.yaml", []byte(r.Text))
		if err != nil {
			return nil, err
		}
		books := map[string][]byte{}
		for name, text := range r.Books {
			books[name] = []byte(text)
		}
		return p, p.SetBooks(books)
	}
}

// copiedText says that what is shown is a copy, and of when.
func copiedText(w io.Writer, of *time.Time) {
	if of != nil {
		fmt.Fprintf(w, "Copy\tthe database is away; this is what the node knew at %s\n", of.Local().Format(time.DateTime))
	}
}

// savePlan writes a plan and its runbooks where their paths say. The paths are
// inside of the directory: the reader of plans takes no others, and what is
// written here is not trusted to have been read by it.
func (a *app) savePlan(dir string, r *governance.Revision) error {
	if err := a.writeFile(filepath.Join(dir, planFile), []byte(r.Text)); err != nil {
		return err
	}
	p, err := plan.Parse(planFile, []byte(r.Text))
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, b := range p.Runbooks {
		text, ok := r.Books[b.Name]
		if !ok || !filepath.IsLocal(b.File) {
			continue
		}
		err := root.MkdirAll(filepath.Dir(b.File), 0o755)
		if err == nil {
			err = root.WriteFile(b.File, []byte(text), 0o644)
		}
		if err != nil {
			return problem.New(problem.Invalid, "file-unwritable", sentence(err.Error())).WithField(b.File).WithMend("Name a directory that you may write.").Wrap(err)
		}
	}
	return nil
}

// commandsOf lists what can be run, as it is typed.
func commandsOf(root *cobra.Command) (out []string) {
	for _, c := range root.Commands() {
		if c.Runnable() && !c.HasSubCommands() { // a group only lists its commands
			out = append(out, c.CommandPath())
		}
		out = append(out, commandsOf(c)...)
	}
	return out
}
