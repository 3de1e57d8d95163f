package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) recoveryGroup() *cobra.Command {
	return group("recovery", "Carry recovery plans out, step by step", a.recoveryList(), a.recoveryPlans(), a.recoveryPreview(), a.recoveryStart(), a.recoveryStatus(),
		a.recoverySay("approve", "Approve a step that waits for it", "The plan names who may, and how many it takes. Who asked for the recovery is\nnever the only one.", "  foundry recovery approve latest back-to-node-1\n  foundry recovery approve latest back-to-node-1 --no --words 'not before Monday'"),
		a.recoverySay("decide", "Record the decision that a step waits for", "It stands in the incident as a decision.", "  foundry recovery decide latest can-node-2-serve --words 'Node 2 carries the platform; staging waits.' --option 'rebuild node 1'"),
		a.recoverySay("say", "Say that a step is done and what shows it, or that it failed", "A fence is one when it was read back: name the way and the state.", "  foundry recovery say latest fence --words 'Switched off at the supplier.' --evidence ticket:4711 --fact fenced-by=power-off --fact state=off\n  foundry recovery say latest start --no --words 'The unit does not start.'"),
		a.recoverySay("retry", "Try a step again that failed, or of which nobody knows", "What was approved before is asked for anew.", "  foundry recovery retry latest validate-platform"),
		a.recoverySay("skip", "Go on without a step; a gate is not skipped", "Say why: it stands in the incident.", "  foundry recovery skip latest notify-clients --words 'They were on the call.'"),
		a.recoveryAbandon())
}

func (a *app) recoveryList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List recoveries, the newest first", Args: exactly(), Example: "  foundry recovery list --json | jq '.[].id'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []recovery.Shown
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/recoveries", nil, &all); err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				fmt.Fprintln(w, "RUN\tPLAN\tINCIDENT\tSTARTED\tSTEPS\tSTANDS")
				for _, r := range all {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Name, r.Incident, moment(r.Started), ended(r), stands(r))
				}
			})
		},
	}
}

// ended counts the steps that have.
func ended(r recovery.Shown) string {
	n := 0
	for _, s := range r.Steps {
		if s.State.Over() {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(r.Steps))
}

func stands(r recovery.Shown) string {
	switch {
	case r.Outcome != "":
		return r.Outcome
	case len(r.Waits) > 0:
		return "waits"
	}
	return "goes on"
}

func (a *app) recoveryPlans() *cobra.Command {
	return &cobra.Command{
		Use: "plans", Short: "List the recovery plans of the plan in force", Args: exactly(), Example: "  foundry recovery plans",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []recovery.Preview
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/recovery-plans", nil, &all); err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				fmt.Fprintln(w, "PLAN\tBRINGS BACK\tSTEPS\tSTARTS\tTITLE")
				for _, p := range all {
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", p.Plan, dashed(strings.Join(p.Functions, ",")), len(p.Steps), dashed(p.Starts), p.Title)
				}
			})
		},
	}
}

// startFlags are what is said of a recovery that begins, or would.
func startFlags(c *cobra.Command, in *api.StartRecovery) {
	f := c.Flags()
	f.StringVar(&in.Incident, "incident", "", "whose timeline takes every step")
	f.StringVar(&in.Scenario, "scenario", "", "of the plan; default: the incident's")
	f.StringArrayVar(&in.Lost, "lost", nil, "a node that is lost, beside those that the scenario and the plan name")
	f.StringArrayVar(&in.Onto, "onto", nil, "a node to recover onto, in place of the plan's")
}

func (a *app) recoveryPreview() *cobra.Command {
	var in api.StartRecovery
	c := &cobra.Command{
		Use: "preview PLAN", Short: "Show what a recovery would do, how long it should take, and who must be there", Args: exactly("PLAN"),
		Long:    "A dry run: nothing is done. For each step it says what would be done and by whom,\nhow long that should take and how that is known, and which gate holds it.",
		Example: "  foundry recovery preview node-1\n  foundry recovery preview node-1 --incident inc-20261123-k3x9qa --lost node-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Plan = args[0]
			var p recovery.Preview
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/recovery-previews", in, &p); err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { showPreview(w, p) })
		},
	}
	startFlags(c, &in)
	return c
}

func showPreview(w io.Writer, p recovery.Preview) {
	fmt.Fprintf(w, "%s: %s\nlost: %s; onto: %s\n\n", p.Plan, p.Title, dashed(strings.Join(p.Lost, ", ")), dashed(strings.Join(p.Onto, ", ")))
	for _, e := range p.Expected {
		fmt.Fprintf(w, "%s\tback after %s\tRTO %s\n", e.Function, plan.FormatDuration(e.Total), dashed(e.RTO))
	}
	fmt.Fprintln(w)
	for i, s := range p.Steps {
		fmt.Fprintf(w, "%d. %s (%s), %s by %s, %s\n    %s\n", i+1, s.Name, s.Kind, plan.FormatDuration(s.Takes), s.From, s.By, s.Does)
		if len(s.Who) > 0 {
			fmt.Fprintf(w, "    there: %s\n", strings.Join(s.Who, ", "))
		}
		if s.Gate != "" {
			fmt.Fprintf(w, "    gate: %s\n", s.Gate)
		}
	}
	for _, text := range p.Problems {
		fmt.Fprintf(w, "! %s\n", text)
	}
}

func (a *app) recoveryStart() *cobra.Command {
	var in api.StartRecovery
	c := &cobra.Command{
		Use: "start PLAN --incident ID", Short: "Start a recovery", Args: exactly("PLAN"),
		Long:    "Carries a recovery plan out, by whichever node leads the fleet. An incident has one\nrun of each recovery plan: who presses second gets the first one's.",
		Example: "  foundry recovery start node-1 --incident latest --words 'node-1 is lost, the witness says so too'",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Plan = args[0]
			if in.Incident == "" {
				return problem.New(problem.Invalid, "usage", "A recovery is carried out in an incident.").WithField("--incident").WithMend("`foundry incident list` shows those that are open; `foundry incident open` opens one.")
			}
			if in.Incident == "latest" {
				b, err := a.incidentBrief(cmd.Context(), "latest")
				if err != nil {
					return err
				}
				in.Incident = b.State.ID
			}
			var r api.StartedRecovery
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/recoveries", in, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				if !r.Began {
					fmt.Fprintln(w, "It was started already; this is the one.")
				}
				showRun(w, r.Shown)
			})
		},
	}
	startFlags(c, &in)
	c.Flags().StringVar(&in.Mode, "mode", "", "real, desktop, sandbox or live; default: the incident's")
	c.Flags().StringVar(&in.Words, "words", "", "why")
	return c
}

func (a *app) recoveryStatus() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "status [RUN]", Short: "Show a recovery: its steps, gates, and whom it waits for", Args: cobra.MaximumNArgs(1),
		Long:    "Without a run it shows the newest that has not ended. It answers on any node of the\nfleet, with the database down.",
		Example: "  foundry recovery status\n  foundry recovery status rec-20261123-k3x9qa --watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			for {
				r, err := a.recoveryRun(cmd.Context(), idOr(args))
				if err != nil {
					if watch && cmd.Context().Err() != nil { // interrupted: that is how it ends
						return nil
					}
					return err
				}
				if err := a.print(r, func(w io.Writer) { showRun(w, r) }); err != nil || !watch || !r.Ended.IsZero() {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(2 * time.Second):
				}
			}
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "again every two seconds, until it has ended")
	return c
}

func (a *app) recoveryRun(ctx context.Context, id string) (r recovery.Shown, err error) {
	return r, a.call(ctx, http.MethodGet, "/api/v1/recoveries/"+url.PathEscape(id), nil, &r)
}

func showRun(w io.Writer, r recovery.Shown) {
	fmt.Fprintf(w, "%s%s %s: %s, %s steps\nincident %s; lost %s; onto %s\n", exerciseMark(r.Mode), r.ID, r.Name, stands(r), ended(r), r.Incident, dashed(strings.Join(r.Lost, ", ")), dashed(strings.Join(r.Onto, ", ")))
	if r.Stale {
		fmt.Fprintln(w, "! As this node has it, which may be old: most of the fleet does not answer.")
	}
	if r.Newer != "" {
		fmt.Fprintln(w, "! Another plan came into force; this run goes on by its own.")
	}
	fmt.Fprintln(w, "\nSTEP\tKIND\tSTATE\tPROGRESS\tWORDS")
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Kind, s.State, bar(s), s.Words)
	}
	if len(r.Waits) > 0 {
		fmt.Fprintln(w, "\nWAITS FOR")
	}
	for _, text := range r.Waits {
		fmt.Fprintf(w, "- %s\n", text)
	}
	for _, s := range r.Steps {
		if s.Need == nil || len(s.Need.Guide)+len(s.Need.Verify) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s (%s)\n", s.Name, dashed(strings.Join(s.Need.Who, ", ")))
		for _, line := range s.Need.Guide {
			fmt.Fprintf(w, "    %s\n", line)
		}
		for _, line := range s.Need.Verify {
			fmt.Fprintf(w, "    verify: %s\n", line)
		}
	}
}

// bar shows how far a step is.
func bar(s recovery.StepState) string {
	switch p := s.Progress; {
	case s.State == recovery.Done:
		return "##########"
	case p == nil || p.Total <= 0:
		return "-"
	default:
		n := int(min(10, max(0, p.Done*10/p.Total)))
		return strings.Repeat("#", n) + strings.Repeat(".", 10-n)
	}
}

// recoverySay is one of the things that people say of a step.
func (a *app) recoverySay(verb, short, long, example string) *cobra.Command {
	var in api.SaidOfRecovery
	c := &cobra.Command{Use: verb + " RUN STEP", Short: short, Long: long, Example: example, Args: exactly("RUN", "STEP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := a.recoveryRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var r recovery.Shown
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/recoveries/"+url.PathEscape(run.ID)+"/steps/"+url.PathEscape(args[1])+"/"+verb, in, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { showRun(w, r) })
		}}
	f := c.Flags()
	f.StringVar(&in.Words, "words", "", "in a sentence or two")
	switch verb {
	case "approve":
		f.BoolVar(&in.No, "no", false, "reject it, and say why")
	case "say":
		f.BoolVar(&in.No, "no", false, "it failed")
		f.StringArrayVar(&in.Evidence, "evidence", nil, "what shows it: an entry, a ticket, a hash")
		f.StringToStringVar(&in.Facts, "fact", nil, "name=value, such as fenced-by=power-off")
	case "decide":
		f.StringArrayVar(&in.Options, "option", nil, "what else there was")
	}
	return c
}

func (a *app) recoveryAbandon() *cobra.Command {
	var words string
	c := &cobra.Command{
		Use: "abandon RUN --words WHY", Short: "Give a recovery up", Args: exactly("RUN"),
		Long:    "Nothing new begins, and what runs is told to end. What was done stays done.",
		Example: "  foundry recovery abandon latest --words 'node-1 answers again'",
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := a.recoveryRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var r recovery.Shown
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/recoveries/"+url.PathEscape(run.ID)+"/abandon", map[string]string{"words": words}, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { showRun(w, r) })
		},
	}
	c.Flags().StringVar(&words, "words", "", "why")
	return c
}
