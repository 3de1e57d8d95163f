package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

func (a *app) planFormat() *cobra.Command {
	check, show := false, false
	c := &cobra.Command{
		Use: "format [PLAN]", Short: "Write a plan in the order and notation of the reference", Args: atMostOnePlan,
		Long: `Writes a plan anew: sections and fields in the order of the reference, two spaces
for each level, quotes where they are needed. Lists keep their order and comments
their words; what the plan says, and so its hash, stays the same. Formatting twice
is formatting once.

With --check nothing is written: the exit code is 1 when the file is not so yet.`,
		Example: "  foundry plan format\n  foundry plan format plan/ --check\n  foundry plan format examples/single --show",
	}
	c.Flags().BoolVar(&check, "check", false, "only say whether the file is formatted; exit code 1 when it is not")
	c.Flags().BoolVar(&show, "show", false, "write to the standard output, not into the file")
	c.RunE = func(_ *cobra.Command, args []string) error {
		p, err := loadPlan(args)
		var mistakes *plan.Mistakes
		if errors.As(err, &mistakes) {
			return a.showMistakes(mistakes, "")
		} else if err != nil {
			return err
		}
		text, err := os.ReadFile(p.Path)
		if err != nil {
			return problem.New(problem.Invalid, "plan-unreadable", sentence(err.Error())).WithField(p.Path).Wrap(err)
		}
		out, err := plan.Format(p.Path, text)
		if err != nil {
			return err
		}
		if show {
			return a.writeFile("-", out)
		}
		changed := !bytes.Equal(out, text)
		if changed && !check {
			if err := replaceFile(p.Path, out); err != nil {
				return err
			}
		}
		state := map[string]any{"path": p.Path, "formatted": !changed || !check, "changed": changed && !check}
		err = a.print(state, func(w io.Writer) {
			switch {
			case !changed:
				fmt.Fprintf(w, "%s is formatted.\n", p.Path)
			case check:
				fmt.Fprintf(w, "%s is not formatted: `foundry plan format` does it.\n", p.Path)
			default:
				fmt.Fprintf(w, "%s was formatted.\n", p.Path)
			}
		})
		if err == nil && check && changed {
			return standingError{1}
		}
		return err
	}
	return c
}

// replaceFile writes a file that was there, in one step: a plan is not lost
// because the disk is full. A link stays one.
func replaceFile(path string, text []byte) error {
	bad := func(err error) error {
		return problem.New(problem.Invalid, "file-unwritable", sentence(err.Error())).WithField(path).WithMend("Name a file in a directory that you may write.").Wrap(err)
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return bad(err)
	}
	info, err := os.Stat(target)
	if err != nil {
		return bad(err)
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".plan-*")
	if err != nil {
		return bad(err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), target)
	}
	if err != nil {
		return bad(err)
	}
	return nil
}
