package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

// submission is what is said beside an exercise that is handed in.
type submission struct{ of, owner string }

func (a *app) exerciseSubmit() *cobra.Command {
	var s submission
	c := &cobra.Command{
		Use: "submit DIRECTORY", Short: "Hand in an exercise, so that it is evidence", Args: exactly("DIRECTORY"),
		Long: `Hands the record of an exercise and its timelines to the node, which verifies
them as a whole, as ` + "`foundry exercise verify`" + ` does, and keeps them: who handed it in,
which scenario of the plan was rehearsed in which mode, under which plan, and what
came of it. What was missing becomes an action with an owner and a day, in the
plan's registers. A failed exercise is handed in as well: it makes its control
fail, as it has to.

What was changed since is refused, with the entry that says otherwise.`,
		Example: "  foundry exercise submit exercises/20261123-030000-primary-lost\n  foundry exercise submit exercises/desk --of site-failure --owner deputy",
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := a.handIn(cmd.Context(), args[0], s)
			if err != nil {
				return err
			}
			return a.print(h, func(w io.Writer) { a.handedIn(w, h) })
		},
	}
	c.Flags().StringVar(&s.of, "of", "", "scenario of the plan that was rehearsed (default: what the exercise's scenario says)")
	c.Flags().StringVar(&s.owner, "owner", "", "who owns what was missing and has no owner, by a name of the plan")
	return c
}

// handIn packs what an exercise left and sends it to the node.
func (a *app) handIn(ctx context.Context, dir string, s submission) (h exercise.Held, err error) {
	b, err := exercise.ReadBundle(dir)
	if err != nil {
		return h, err
	}
	if _, _, err := b.Verify(); err != nil {
		return h, err
	}
	packed, err := b.Pack()
	if err != nil {
		return h, err
	}
	return h, a.call(ctx, http.MethodPost, "/api/v1/exercises", exercise.Handed{Bundle: packed, Of: s.of, Owner: s.owner}, &h)
}

// alsoHandIn hands an exercise in at its end, and says so where --json does not
// look.
func (a *app) alsoHandIn(ctx context.Context, dir string, s submission) error {
	h, err := a.handIn(ctx, dir, s)
	if err == nil {
		a.handedIn(a.err, h)
	}
	return err
}

func (a *app) handedIn(w io.Writer, h exercise.Held) {
	fmt.Fprintf(w, "%s was handed in: %s. %s\n", h.ID, h.Outcome, h.Words)
	if h.Of == "" {
		fmt.Fprintln(w, "It rehearses no scenario of the plan: name one with `of` in its scenario, or hand it in with --of.")
	} else {
		fmt.Fprintf(w, "Scenario of the plan: %s\n", h.Of)
	}
	for _, x := range h.Actions {
		fmt.Fprintf(w, "To do: %s\t%s\t%s\t%s\n", x.ID, x.Title, x.Owner, x.Due.Format(time.DateOnly))
	}
}

func (a *app) exerciseList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the exercises that were handed in, and when each scenario of the plan is due", Args: exactly(),
		Long:    "Lists every scenario of the plan with its last exercise, what came of it and when the\nplan wants the next, and then every exercise that was handed in.",
		Example: "  foundry exercise list\n  foundry exercise list --json | jq '.scenarios[] | select(.result != \"pass\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r api.Rehearsed
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/exercises", nil, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { rehearsedInWords(w, &r) })
		},
	}
}

func rehearsedInWords(w io.Writer, r *api.Rehearsed) {
	dayOr := func(t time.Time, none string) string {
		if t.IsZero() {
			return none
		}
		return t.Format(time.DateOnly)
	}
	if len(r.Scenarios) == 0 {
		fmt.Fprintln(w, "No plan with scenarios is in force: nothing says what has to be exercised when.")
	} else {
		fmt.Fprintln(w, "SCENARIO\tFORM\tLAST\tOUTCOME\tDUE\tSTATE")
	}
	for _, s := range r.Scenarios {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Scenario, cmp.Or(s.Form, "any"), dayOr(s.At, "never"), cmp.Or(s.Outcome, "-"), dayOr(s.Due, "-"), s.Result)
	}
	if len(r.Exercises) == 0 {
		fmt.Fprintln(w, "\nNo exercise was handed in. `foundry exercise run` holds one, `foundry exercise submit` hands it in.")
		return
	}
	fmt.Fprintln(w, "\nEXERCISE\tOF\tMODE\tHELD\tOUTCOME\tOPEN\tTITLE")
	for _, h := range r.Exercises {
		open := 0
		for _, x := range h.Actions {
			if x.Done.IsZero() {
				open++
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", h.ID, cmp.Or(h.Of, "-"), h.Mode, h.Began.Format(time.DateOnly), h.Outcome, open, h.Title)
	}
}

func (a *app) exerciseShow() *cobra.Command {
	var report string
	c := &cobra.Command{
		Use: "show EXERCISE", Short: "Show an exercise that was handed in, or write its report", Args: exactly("EXERCISE"),
		Long:    "Shows what came of an exercise, by the record that was handed in and is verified\nagain. With --report it writes the whole report as one page, made from the record.",
		Example: "  foundry exercise show exc-20261123-k3x9qa\n  foundry exercise show exc-20261123-k3x9qa --report report.html",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/exercises/" + url.PathEscape(args[0])
			if report != "" {
				var page api.ExerciseReport
				if err := a.call(cmd.Context(), http.MethodGet, path+"/report", nil, &page); err != nil {
					return err
				}
				if err := os.WriteFile(report, []byte(page.HTML), 0o600); err != nil {
					return problem.New(problem.Invalid, "exercise-report", "The report cannot be written: "+err.Error()+".").WithField("--report").WithMend("Name a file in a directory that is there.")
				}
				return a.print(map[string]string{"id": page.ID, "file": report}, func(w io.Writer) { fmt.Fprintf(w, "Written: %s\n", report) })
			}
			var s exercise.Shown
			if err := a.call(cmd.Context(), http.MethodGet, path, nil, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { shownExercise(w, &s) })
		},
	}
	c.Flags().StringVar(&report, "report", "", "file to write the whole report into, as one page")
	return c
}

func shownExercise(w io.Writer, s *exercise.Shown) {
	fmt.Fprintf(w, "%s: %s. %s\n\n", s.Title, s.Outcome, s.Words)
	fmt.Fprintf(w, "Exercise\t%s\n", s.ID)
	fmt.Fprintf(w, "Scenario\t%s, rehearses %s\n", s.Scenario, cmp.Or(s.Of, "no scenario of the plan"))
	fmt.Fprintf(w, "Mode\t%s\n", s.Mode)
	fmt.Fprintf(w, "Held\t%s to %s\n", s.Began.UTC().Format(time.RFC3339), s.Ended.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "Plan\t%s\n", cmp.Or(s.Plan, "none was in force"))
	fmt.Fprintf(w, "Handed in\t%s by %s\n", s.Submitted.UTC().Format(time.RFC3339), s.By)
	fmt.Fprintf(w, "Timeline\t%s\n", s.Head)
	if !s.Bound {
		fmt.Fprintln(w, "\t(its record is compared entry by entry; the timeline holds no digest of it)")
	}
	if len(s.Record.Measures) > 0 {
		fmt.Fprintln(w, "\nMEASURE\tRESULT\tTARGET\tKEPT")
	}
	for i := range s.Record.Measures {
		result, target, kept := s.Record.Measures[i].Words()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Record.Measures[i].Name, result, target, kept)
	}
	if len(s.Actions) > 0 {
		fmt.Fprintln(w, "\nACTION\tOWNER\tDUE\tSTATE\tWHAT")
	}
	for _, x := range s.Actions {
		state := "open"
		if !x.Done.IsZero() {
			state = "done " + x.Done.Format(time.DateOnly)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.ID, x.Owner, x.Due.Format(time.DateOnly), state, strings.TrimSpace(x.Title))
	}
}

func (a *app) exerciseActions() *cobra.Command {
	return &cobra.Command{
		Use: "actions", Short: "List what exercises and incidents left to be done, what is late first", Args: exactly(),
		Long:    "Lists every action that is open. Those past their day raise an alarm, as everything\ndoes that lapses in the plan's registers.",
		Example: "  foundry exercise actions\n  foundry exercise actions --json | jq '.[] | select(.state == \"lapsed\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []governance.Due
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/exercise-actions", nil, &all); err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				if len(all) == 0 {
					fmt.Fprintln(w, "Nothing that an exercise or an incident left is open.")
					return
				}
				fmt.Fprintln(w, "OF\tACTION\tOWNER\tDUE\tSTATE\tWHAT")
				for _, d := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Of, d.Key[strings.LastIndexByte(d.Key, '/')+1:], d.Owner, d.Due.Format(time.DateOnly), map[string]string{governance.Lapsed: "late", governance.Soon: "due soon"}[d.State], d.Title)
				}
			})
		},
	}
}

func (a *app) exerciseAction() *cobra.Command {
	var c exercise.ActionChange
	var until string
	cmd := &cobra.Command{
		Use: "action EXERCISE ACTION WORDS", Short: "Say that an action of an exercise is done, put off, or somebody else's", Args: exactly("EXERCISE", "ACTION", "WORDS"),
		Long:    "WORDS say what shows that it is done, or why it is changed. Those of an incident are\nsaid with `foundry incident action`.",
		Example: "  foundry exercise action exc-20261123-k3x9qa gap-1 'commit 4f2a; seen by deputy' --done\n  foundry exercise action exc-20261123-k3x9qa gap-1 'the supplier is late' --until 2027-02-01\n  foundry exercise action exc-20261123-k3x9qa gap-1 'changes hands' --owner deputy",
		RunE: func(cmd *cobra.Command, args []string) error {
			if until != "" {
				day, err := time.ParseInLocation(time.DateOnly, until, time.Local)
				if err != nil {
					return problem.New(problem.Invalid, "exercise-action", fmt.Sprintf("%q is no day.", until)).WithField("--until").WithMend("Write one as 2027-02-01.")
				}
				c.Due = day
			}
			c.Words = args[2]
			var x exercise.Action
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/exercises/"+url.PathEscape(args[0])+"/actions/"+url.PathEscape(args[1]), c, &x); err != nil {
				return err
			}
			return a.print(x, func(w io.Writer) {
				if !x.Done.IsZero() {
					fmt.Fprintf(w, "%s is done.\n", x.ID)
					return
				}
				fmt.Fprintf(w, "%s is %s's, until %s.\n", x.ID, x.Owner, x.Due.Format(time.DateOnly))
			})
		},
	}
	cmd.Flags().BoolVar(&c.Done, "done", false, "it is done")
	cmd.Flags().StringVar(&until, "until", "", "day until which it is put off")
	cmd.Flags().StringVar(&c.Owner, "owner", "", "who does it from now on")
	return cmd
}
