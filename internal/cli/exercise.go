package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/sandbox"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) exercise() *cobra.Command {
	return group("exercise", "Rehearse the plan: in a sandbox that is really broken, or at a desktop", a.exerciseRun(), a.exerciseVerify(), a.exerciseSubmit(), a.exerciseList(), a.exerciseShow(), a.exerciseActions(), a.exerciseAction(), a.exerciseScenarios(), a.exerciseCheck(), a.exerciseLanguage())
}

func (a *app) exerciseRun() *cobra.Command {
	var mode, out, resume, owner string
	var with []string
	var keep, submit bool
	var sent submission
	c := &cobra.Command{
		Use: "run SCENARIO", Short: "Run a scenario and write the report", Args: exactly("SCENARIO"),
		Long: `Runs one of the scenarios that come with Foundry, or one from a file.

In the mode sandbox it starts a throwaway fleet of real processes on this
machine, breaks it as the scenario says, looks at it from outside, and measures
against the targets. Run it as root where networks are cut; otherwise nodes are
killed, and nothing is cut. Nothing outside of it is touched, and it needs no
running node.

In the mode desktop it tells what happens, asks what the scenario asks, and takes
the answers from the terminal, one line each. Every answer is in the timeline at
once: an exercise that was interrupted goes on with --resume. A desktop exercise
finds gaps; it proves no recovery time.

With --submit the exercise is handed in to the node as it is at its end, and counts
as evidence; ` + "`foundry exercise submit`" + ` does the same later.

The report (report.html), the record and the timelines are written into --out.
The command fails with exit code 1 where something was not as it had to be, a
target was missed or could not be measured, and with 70 where the exercise could
not be carried to its end.`,
		Example: "  sudo foundry exercise run primary-lost\n  foundry exercise run provider-lost --out /tmp/exercise\n  foundry exercise run ./own.scenario --json | jq .outcome\n  foundry exercise run intruder --mode desktop --with ceo,deputy,on-call --owner ceo --submit",
		ValidArgsFunction: func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
			all, _ := scenario.Shipped()
			for _, s := range all {
				names = append(names, s.Name+"\t"+s.Title)
			}
			return names, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenario.Find(args[0])
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join("exercises", time.Now().UTC().Format("20060102-150405")+"-"+s.Name)
			}
			if resume != "" {
				out = resume
			}
			switch scenario.Mode(mode) {
			case scenario.Sandbox:
			case scenario.Desktop:
				return a.atDesk(cmd.Context(), s, desk{dir: out, resume: resume != "", with: with, owner: owner, submit: submit, sent: sent})
			default:
				return problem.New(problem.Invalid, "exercise-mode", fmt.Sprintf("An exercise cannot be run in the mode %q.", mode)).WithField("--mode").WithMend("Choose sandbox or desktop.")
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			r, err := sandbox.Run(cmd.Context(), sandbox.Options{Scenario: s, Dir: out, Binary: binary, Version: a.version, Keep: keep,
				Socket: daemon.SocketPath, Authority: daemon.AuthorityFile, Told: a.exerciseTold(), Log: slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))})
			if r == nil {
				return err
			}
			if perr := a.print(r, func(w io.Writer) { exerciseInWords(w, r, out) }); perr != nil || err != nil {
				return errors.Join(perr, err)
			}
			if submit {
				sent.owner = owner
				if err := a.alsoHandIn(cmd.Context(), out, sent); err != nil {
					return err
				}
			}
			if r.Outcome != exercise.Passed {
				return standingError{1}
			}
			return nil
		},
	}
	c.Flags().StringVar(&mode, "mode", string(scenario.Sandbox), "sandbox: a throwaway fleet, really broken; desktop: people walk through it")
	c.Flags().StringSliceVar(&with, "with", nil, "desktop: who takes part, by the plan's names")
	c.Flags().StringVar(&owner, "owner", "", "who owns the gaps that nobody else is named for, by a name of the plan")
	c.Flags().StringVar(&resume, "resume", "", "desktop: go on with the exercise in this directory")
	c.Flags().StringVar(&out, "out", "", "directory for the report (default: exercises/<time>-<scenario>)")
	c.Flags().BoolVar(&submit, "submit", false, "hand it in to the running node at its end, whatever comes of it")
	c.Flags().BoolVar(&keep, "keep", false, "leave the directories of the sandbox's nodes for a look")
	return c
}

// exerciseTold shows progress as it comes: on the standard error, so that
// --json stays one document.
func (a *app) exerciseTold() func(sandbox.Told) {
	var began time.Time
	return func(t sandbox.Told) {
		if began.IsZero() {
			began = t.At
		}
		at := fmt.Sprintf("%6.1fs ", t.At.Sub(began).Seconds())
		switch {
		case t.Step != "":
			fmt.Fprintf(a.err, "\n%s%s\n", at, t.Step)
		case t.Done && !t.OK:
			fmt.Fprintf(a.err, "%s  ⬣ %s\n", at, t.Words)
		case t.Done && t.Words != "":
			fmt.Fprintf(a.err, "%s  ✓ %s\n", at, t.Words)
		case !t.Done:
			fmt.Fprintf(a.err, "%s  %s\n", at, t.Words)
		}
	}
}

func exerciseInWords(w io.Writer, r *exercise.Record, out string) {
	fmt.Fprintf(w, "%s: %s. %s\n\n", r.Title, r.Outcome, r.Words)
	if len(r.Measures) > 0 {
		fmt.Fprintln(w, "MEASURE\tRESULT\tTARGET\tKEPT")
	}
	for i := range r.Measures {
		result, target, kept := r.Measures[i].Words()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Measures[i].Name, result, target, kept)
	}
	for _, f := range r.Facts {
		fmt.Fprintf(w, "\n%s: %s", f.About, f.Says)
	}
	fmt.Fprintf(w, "\n\nReport: %s\n", filepath.Join(out, exercise.PageFile))
}

func (a *app) exerciseVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify DIRECTORY", Short: "Check that everything a report says stands in its timelines, unchanged", Args: exactly("DIRECTORY"),
		Long: `Reads the record of an exercise and the timelines beside it, checks every hash,
and that each statement names an entry that is there. It asks no node.

Exits with 73 if anything was changed or leads nowhere.`,
		Example: "  foundry exercise verify exercises/20261123-030000-primary-lost",
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := exercise.Read(args[0])
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s. Every statement stands in its timelines, and they are whole.\n", r.ID, r.Outcome)
				for _, t := range r.Timelines {
					fmt.Fprintf(w, "%s\t%d entries\t%s\n", t.ID, t.Entries, t.Head)
				}
			})
		},
	}
}

func (a *app) exerciseScenarios() *cobra.Command {
	return &cobra.Command{
		Use: "scenarios", Short: "List the scenarios that come with Foundry", Args: exactly(),
		Example: "  foundry exercise scenarios\n  foundry exercise scenarios --json | jq -r '.[].name'",
		RunE: func(*cobra.Command, []string) error {
			all, err := scenario.Shipped()
			if err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tMODES\tOF\tTITLE")
				for _, s := range all {
					var modes []string
					for _, m := range s.Modes() {
						modes = append(modes, string(m))
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, strings.Join(modes, ", "), strings.Join(s.Source, ", "), s.Title)
				}
			})
		},
	}
}

func (a *app) exerciseCheck() *cobra.Command {
	var of string
	c := &cobra.Command{
		Use: "check SCENARIO", Short: "Read a scenario, and say what is wrong with it", Args: exactly("SCENARIO"),
		Example: "  foundry exercise check ./own.scenario\n  foundry exercise check primary-lost --plan continuity/",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := scenario.Find(args[0])
			if err != nil {
				return err
			}
			if of != "" {
				p, err := plan.Load(of)
				if err != nil {
					return err
				}
				if bad := s.Check(p); len(bad) > 0 {
					return &plan.Mistakes{File: s.Path, Of: "scenario of this plan", Text: s.Text, List: bad}
				}
			}
			return a.print(s, func(w io.Writer) { fmt.Fprintf(w, "%s: %s. It can be run.\n", s.Name, s.Title) })
		},
	}
	c.Flags().StringVar(&of, "plan", "", "fleet file, or its directory: the scenario has to name what is in it")
	return c
}

func (a *app) exerciseLanguage() *cobra.Command {
	return &cobra.Command{
		Use: "language", Short: "List the lines that a scenario can have", Args: exactly(),
		Example: "  foundry exercise language",
		RunE: func(*cobra.Command, []string) error {
			l := scenario.Language()
			return a.print(l, func(w io.Writer) {
				for _, part := range l {
					fmt.Fprintf(w, "%s\n\n", part.Title)
					for _, f := range part.Forms {
						fmt.Fprintf(w, "  %s\t%s\n", f.Write, f.Says)
					}
					fmt.Fprintln(w)
				}
			})
		},
	}
}
