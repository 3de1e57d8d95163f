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
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func incidentPath(id string, more ...string) string {
	return "/api/v1/incidents/" + strings.Join(append([]string{url.PathEscape(id)}, more...), "/")
}

// idOr takes an id, or stands for the newest that is open.
func idOr(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return incident.Latest
}

func (a *app) incidentBrief(ctx context.Context, id string) (b incident.Brief, err error) {
	return b, a.call(ctx, http.MethodGet, incidentPath(id), nil, &b)
}

func (a *app) incidentList() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "list", Short: "List incidents: those that are open, or all", Args: exactly(),
		Example: "  foundry incident list\n  foundry incident list --all --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []incident.Summary
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/incidents", nil, &list); err != nil {
				return err
			}
			shown := []incident.Summary{}
			for _, s := range list {
				if all || s.Phase != incident.Closed {
					shown = append(shown, s)
				}
			}
			return a.print(shown, func(w io.Writer) {
				if len(shown) == 0 {
					fmt.Fprintln(w, "No incident is open. `foundry incident open` begins one.")
					return
				}
				fmt.Fprintln(w, "INCIDENT\tPHASE\tOPENED\tLEAD\tFIRST CLOCK\tTITLE")
				for _, s := range shown {
					if s.Broken != "" {
						fmt.Fprintf(w, "%s\tCHANGED\t-\t-\t-\t%s\n", s.ID, s.Broken)
						continue
					}
					urgent := "-"
					if s.Urgent != nil {
						urgent = s.Urgent.ID + " " + leftOn(*s.Urgent)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s%s\n", s.ID, s.Phase, moment(s.OpenedAt), dashed(s.Lead), urgent, exerciseMark(s.Mode), s.Title)
				}
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "those that are closed too")
	return c
}

func dashed(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func exerciseMark(m incident.Mode) string {
	if m == incident.Real {
		return ""
	}
	return "EXERCISE: "
}

func (a *app) incidentShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [ID]", Short: "Show what is down, how long is left on each clock, and what needs you", Args: cobra.MaximumNArgs(1),
		Long:    "The page for three in the morning. Without an id it shows the newest incident that\nis open. It answers on any node of the fleet, with the database down.",
		Example: "  foundry incident show\n  foundry incident show inc-20261123-k3x9qa --json | jq .needs",
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.incidentBrief(cmd.Context(), idOr(args))
			if err != nil {
				return err
			}
			return a.print(b, func(w io.Writer) { showBrief(w, b) })
		},
	}
}

func showBrief(w io.Writer, b incident.Brief) {
	s := b.State
	fmt.Fprintf(w, "%s%s\n%s, %s, phase %s since %s\n", exerciseMark(s.Mode), s.Title, s.ID, s.Category, s.Phase, moment(s.Since))
	if b.Stale {
		fmt.Fprintln(w, "! As this node has it, which may be old: most of the fleet does not answer, and nothing can be written.")
	}
	if s.OnHold {
		fmt.Fprintln(w, "! A legal hold is on: nothing is destroyed.")
	}
	fmt.Fprintln(w, "\nDOWN\tSINCE\tFOR")
	if len(b.Down) == 0 {
		fmt.Fprintln(w, "nothing that is known")
	}
	for _, d := range b.Down {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Function, moment(d.Since), lasting(d.For))
	}
	if b.Unclocked {
		fmt.Fprintf(w, "\n%s\n", incident.NoPlan)
	} else {
		fmt.Fprintln(w)
		showClocks(w, b.Clocks, false)
	}
	fmt.Fprintln(w, "\nNEEDS YOU")
	if len(b.Needs) == 0 {
		fmt.Fprintln(w, "nothing")
	}
	for _, n := range b.Needs {
		fmt.Fprintf(w, "- %s\n    %s\n", n.What, n.How)
	}
	if len(s.Roles) > 0 {
		fmt.Fprintln(w)
		for _, r := range incident.Roles {
			if s.Roles[r] != "" {
				fmt.Fprintf(w, "%s\t%s\n", r, s.Roles[r])
			}
		}
	}
	for _, n := range s.Notices {
		state := string(n.Step)
		if n.Unclear {
			state = "indeterminate"
		}
		fmt.Fprintf(w, "notice %s\tto %s\t%s\t%s\n", n.ID, dashed(n.To), state, n.Receipt)
	}
	fmt.Fprintf(w, "\n%d entries: foundry incident timeline %s\n", s.Head.N, s.ID)
}

// showClocks writes those that are not over, or all.
func showClocks(w io.Writer, list []clock.Reading, all bool) {
	fmt.Fprintln(w, "CLOCK\tSTATE\tLEFT\tUNTIL\tWHAT")
	over := 0
	for _, r := range list {
		if !all && r.Over() {
			over++
			continue
		}
		until := "-"
		if !r.Due.IsZero() {
			until = moment(r.Due)
		}
		assumed := ""
		if r.Bound != nil && r.Bound.Assumed {
			assumed = " (assumed)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s%s\n", r.ID, r.State, leftOn(r), until, r.Title, assumed)
	}
	if over > 0 {
		fmt.Fprintf(w, "and %d that are over: foundry incident clocks\n", over)
	}
}

func leftOn(r clock.Reading) string {
	switch {
	case r.State == clock.Expired:
		return lasting(-r.Left) + " over"
	case r.State == clock.Running:
		return lasting(r.Left)
	}
	return "-"
}

// lasting writes a length as people say it.
func lasting(d time.Duration) string {
	if d < 0 {
		d = -d
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

func (a *app) incidentClocks() *cobra.Command {
	return &cobra.Command{
		Use: "clocks [ID]", Short: "Show every clock of an incident, also those that are over", Args: cobra.MaximumNArgs(1),
		Long:    "A clock ends by a recorded fact that names what shows it, and by nothing else:\nneither closing nor deleting anything stops one.",
		Example: "  foundry incident clocks\n  foundry incident clocks inc-20261123-k3x9qa --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.incidentBrief(cmd.Context(), idOr(args))
			if err != nil {
				return err
			}
			return a.print(b.Clocks, func(w io.Writer) {
				if b.Unclocked {
					fmt.Fprintln(w, incident.NoPlan)
					return
				}
				showClocks(w, b.Clocks, true)
			})
		},
	}
}

func (a *app) incidentTimeline() *cobra.Command {
	return &cobra.Command{
		Use: "timeline [ID]", Short: "Show every entry of an incident", Args: cobra.MaximumNArgs(1),
		Long:    "Entries are only ever appended, and each holds the hash of the one before.",
		Example: "  foundry incident timeline\n  foundry incident timeline inc-20261123-k3x9qa --json | jq '.entries[].says'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var t api.IncidentTimeline
			if err := a.call(cmd.Context(), http.MethodGet, incidentPath(idOr(args), "timeline"), nil, &t); err != nil {
				return err
			}
			return a.print(t, func(w io.Writer) {
				if t.Stale {
					fmt.Fprintln(w, "! As this node has it, which may be old: most of the fleet does not answer.")
				}
				fmt.Fprintln(w, "N\tWHEN\tKIND\tBY\tWHAT")
				for _, e := range t.Entries {
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.N, e.At.UTC().Format("2006-01-02 15:04:05"), e.Kind, e.By, strings.ReplaceAll(e.Says, "\n", " "))
				}
			})
		},
	}
}

func (a *app) incidentExport() *cobra.Command {
	var format, out, zone string
	c := &cobra.Command{
		Use: "export [ID]", Short: "Take an incident along: signed, or as a page or document to read", Args: cobra.MaximumNArgs(1),
		Long: `Writes one of three files. The archive proves: it is signed, and
` + "`foundry incident verify`" + ` checks it anywhere. html is a page that needs nothing else;
pdf is for printing and filing. Both are for reading, and name the archive's head.`,
		Example: "  foundry incident export\n  foundry incident export inc-20261123-k3x9qa --format pdf --zone Europe/London --out report.pdf",
		RunE: func(cmd *cobra.Command, args []string) error {
			var f incident.File
			q := url.Values{"format": {format}, "zone": {zone}}
			if err := a.call(cmd.Context(), http.MethodGet, incidentPath(idOr(args), "export")+"?"+q.Encode(), nil, &f); err != nil {
				return err
			}
			if out == "" {
				out = f.Name
			}
			if err := a.writeFile(out, f.Bytes); err != nil || out == "-" {
				return err
			}
			return a.print(map[string]any{"file": out, "type": f.Type, "bytes": len(f.Bytes)}, func(w io.Writer) { fmt.Fprintln(w, out) })
		},
	}
	c.Flags().StringVar(&format, "format", "archive", "archive, html or pdf")
	c.Flags().StringVar(&out, "out", "", "file to write; default: by the incident's id; -: to standard output")
	c.Flags().StringVar(&zone, "zone", "UTC", "time zone beside UTC, such as Europe/London")
	return c
}

// say writes an entry and says what it led to.
func (a *app) say(cmd *cobra.Command, id, what string, body map[string]any) error {
	path, in := incidentPath(id, "entries"), any(map[string]any{"kind": what, "body": body})
	if own, ok := map[string]string{"decision": "decisions", "approval": "approvals", "assessment": "assessments", "communication": "notices", "closed": "closing"}[what]; ok {
		path, in = incidentPath(id, own), body
	}
	for k, v := range body { // what was not said is not sent
		switch x := v.(type) {
		case string:
			if x == "" {
				delete(body, k)
			}
		case []string:
			if len(x) == 0 {
				delete(body, k)
			}
		case bool:
			if !x && k != "on" && k != "approve" && k != "personal_data" {
				delete(body, k)
			}
		}
	}
	var out api.WrittenIncident
	if err := a.call(cmd.Context(), http.MethodPost, path, in, &out); err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "Entry %d of %s: %s\n", out.Entry.N, out.Entry.Incident, incident.Describe(out.Entry))
		for i, n := range out.Brief.Needs {
			if i == 3 {
				fmt.Fprintf(w, "and %d more: foundry incident show %s\n", len(out.Brief.Needs)-i, out.Entry.Incident)
				break
			}
			fmt.Fprintf(w, "- %s\n    %s\n", n.What, n.How)
		}
	})
}

// instants reads those of several flags that were given.
func instants(into map[string]any, flags map[string][2]string) error {
	for flag, f := range flags {
		if f[1] == "" {
			continue
		}
		t, err := instant(flag, f[1])
		if err != nil {
			return err
		}
		into[f[0]] = t
	}
	return nil
}

func number(word, text string) (int, error) {
	var n int
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil || n < 1 {
		return 0, problem.New(problem.Invalid, "usage", fmt.Sprintf("%q is no number of an entry.", text)).WithField(word).WithMend("`foundry incident timeline` numbers them.")
	}
	return n, nil
}
