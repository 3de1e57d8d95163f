package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

// Exit codes of commands about backups, after their output.
const provenHelp = "\n\nThe exit code tells what came of it: 0 done and, of a drill, proven; 1 failed;\n3 inconclusive."

func (a *app) backup() *cobra.Command {
	return group("backup", "Backups, and proof that they can be restored", a.backupStatus(), a.backupRun(), a.backupDrill(), a.backupList(), a.backupShow(),
		a.backupVerify(), a.backupExpire(), a.backupHold(), a.backupRelease(), a.backupTargets(), a.backupMirrors())
}

func (a *app) backupStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say whether you can restore, and what would be lost now", Args: exactly(),
		Long: "Says in a sentence whether a restore would work, by what was proven and not by\nwhat an engine reports, and what would be lost if this node were lost now." + provenHelp,
		Example: `  foundry backup status
  foundry backup status --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s backup.Status
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/backup-status", nil, &s); err != nil {
				return err
			}
			if err := a.print(s, func(w io.Writer) { describeBackups(w, s) }); err != nil {
				return err
			}
			return outcomeCode(s.CanRestore.Outcome)
		},
	}
}

func outcomeCode(o backup.Outcome) error {
	switch o {
	case backup.Pass:
		return nil
	case backup.Fail:
		return standingError{1}
	}
	return standingError{3}
}

func (a *app) backupRun() *cobra.Command {
	var in backup.Request
	c := &cobra.Command{
		Use: "run [SUBJECT…]", Short: "Make backups now",
		Long: "Backs up the database and the files of the node, or only the named subjects\n(database, files, mirrors), to every target, and waits. A backup counts as proven\nonly after a drill." + provenHelp,
		Example: `  foundry backup run
  foundry backup run database --type full --target offsite`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, s := range args {
				in.Subjects = append(in.Subjects, backup.Subject(s))
			}
			return a.job(cmd.Context(), "/api/v1/backups", in)
		},
	}
	c.Flags().StringVar(&in.Type, "type", "", "of a backup of the database: full, differential or incremental (default: what the schedule would make)")
	c.Flags().StringArrayVar(&in.Targets, "target", nil, "only to this target; may be repeated")
	return c
}

func (a *app) backupDrill() *cobra.Command {
	var in backup.DrillRequest
	var at, which string
	c := &cobra.Command{
		Use: "drill [DRILL]", Short: "Restore a backup apart and prove it; or show a drill",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("DRILL")(cmd, args)
			}
			return nil
		},
		Long: "Restores into a database of its own beside the live one, which it does not touch,\nproves what was restored, measures how long that took and what was missing, and\nthrows the copy away. With the id of a drill it shows that one." + provenHelp,
		Example: `  foundry backup drill
  foundry backup drill --which random --target offsite
  foundry backup drill --at 2026-11-30T12:00:00Z
  foundry backup drill --subject files
  foundry backup drill 01a2f0c4-…`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.showDrill(cmd.Context(), args[0])
			}
			in.Which = backup.Which(which)
			if at != "" {
				t, err := time.Parse(time.RFC3339, at)
				if err != nil {
					return problem.New(problem.Invalid, "time", fmt.Sprintf("%q is no moment.", at)).WithField("at").WithMend("Write it as 2026-11-30T12:00:00Z.")
				}
				in.Time, in.Which = t, backup.At
			}
			return a.job(cmd.Context(), "/api/v1/backup-drills", in)
		},
	}
	c.Flags().StringVar(&which, "which", "", "latest, random or oldest (default latest)")
	c.Flags().StringVar(&at, "at", "", "restore this moment")
	c.Flags().StringVar(&in.Target, "target", "", "from this target (default: the one that was drilled longest ago)")
	c.Flags().StringVar((*string)(&in.Subject), "subject", "", "database, files or mirrors (default database)")
	c.Flags().StringVar(&in.Label, "label", "", "restore this backup")
	return c
}

func (a *app) showDrill(ctx context.Context, id string) error {
	var d backup.Drill
	if err := a.call(ctx, http.MethodGet, "/api/v1/backup-drills/"+url.PathEscape(id), nil, &d); err != nil {
		return err
	}
	if err := a.print(d, func(w io.Writer) { describeDrill(w, d) }); err != nil {
		return err
	}
	return outcomeCode(d.Outcome)
}

func (a *app) backupList() *cobra.Command {
	var runs, drills, calendar, gone bool
	var subject, target, since string
	limit := 0
	c := &cobra.Command{
		Use: "list", Short: "List backups, or runs, drills or the days of a month", Args: exactly(),
		Long: "Lists what could be restored, the newest first, with what was proven of it.",
		Example: `  foundry backup list
  foundry backup list --gone --subject database --target offsite --since 2026-11-01
  foundry backup list --runs --limit 20
  foundry backup list --drills
  foundry backup list --calendar`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for name, v := range map[string]string{"subject": subject, "target": target} {
				if v != "" {
					q.Set(name, v)
				}
			}
			if since != "" {
				day, err := time.Parse(time.DateOnly, since)
				if err != nil {
					return problem.New(problem.Invalid, "date", fmt.Sprintf("%q is not a date.", since)).WithField("since").WithMend("Write it as 2026-11-30.")
				}
				q.Set("since", day.UTC().Format(time.RFC3339))
			}
			if limit > 0 {
				q.Set("limit", strconv.Itoa(limit))
			}
			if gone {
				q.Set("gone", "true")
			}
			switch {
			case runs:
				return listOf(a, cmd.Context(), "/api/v1/backup-jobs?"+q.Encode(), tableOfJobs)
			case drills:
				return listOf(a, cmd.Context(), "/api/v1/backup-drills?"+q.Encode(), tableOfDrills)
			case calendar:
				return listOf(a, cmd.Context(), "/api/v1/backup-calendar", tableOfDays)
			}
			return listOf(a, cmd.Context(), "/api/v1/backups?"+q.Encode(), tableOfPoints)
		},
	}
	c.Flags().BoolVar(&runs, "runs", false, "list what was done instead: backups, drills, checks, expiries")
	c.Flags().BoolVar(&drills, "drills", false, "list drills instead")
	c.Flags().BoolVar(&calendar, "calendar", false, "list the last 30 days instead")
	c.Flags().BoolVar(&gone, "gone", false, "also what was expired or is missing")
	c.Flags().StringVar(&subject, "subject", "", "only database, files or mirrors")
	c.Flags().StringVar(&target, "target", "", "only at this target")
	c.Flags().StringVar(&since, "since", "", "only since this day")
	c.Flags().IntVar(&limit, "limit", 0, "at most this many (default 100)")
	c.MarkFlagsMutuallyExclusive("runs", "drills", "calendar")
	return c
}

// listOf asks for a list and shows it.
func listOf[T any](a *app, ctx context.Context, path string, table func(io.Writer, []T)) error {
	var out []T
	if err := a.call(ctx, http.MethodGet, path, nil, &out); err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) { table(w, out) })
}

func (a *app) backupShow() *cobra.Command {
	target := ""
	c := &cobra.Command{
		Use: "show BACKUP", Short: "Show one backup", Args: exactly("BACKUP"),
		Long: "Shows one backup with what it needs to be restored, and what was proven of it.",
		Example: `  foundry backup show 20261130-021502F
  foundry backup show 20261130-021502F --target offsite --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var p backup.Point
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/backups/"+url.PathEscape(args[0])+"?target="+url.QueryEscape(target), nil, &p); err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { describePoint(w, p) })
		},
	}
	c.Flags().StringVar(&target, "target", "", "at this target, where there is one of that name at more than one")
	return c
}

func (a *app) backupVerify() *cobra.Command {
	var in backup.TargetRequest
	c := &cobra.Command{
		Use: "verify", Short: "Check repositories and the archive of the log", Args: exactly(),
		Long:    "Looks for backups that are gone, for gaps in the archive of the write-ahead log,\nand has the engines check their repositories. It finds what is broken; that all is\nwell only a drill proves." + provenHelp,
		Example: "  foundry backup verify\n  foundry backup verify --target offsite",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.job(cmd.Context(), "/api/v1/backup-checks", in) },
	}
	c.Flags().StringArrayVar(&in.Targets, "target", nil, "only this target; may be repeated")
	return c
}

func (a *app) backupExpire() *cobra.Command {
	var in backup.TargetRequest
	c := &cobra.Command{
		Use: "expire", Short: "Remove what is older than the retention", Args: exactly(),
		Long:    "Removes backups that are older than the retention and that nothing holds, and\nsays which older ones stay and why. The schedule does it after every backup." + provenHelp,
		Example: "  foundry backup expire --dry-run\n  foundry backup expire --target offsite",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.job(cmd.Context(), "/api/v1/backup-expiries", in)
		},
	}
	c.Flags().BoolVar(&in.DryRun, "dry-run", false, "only say what would go")
	c.Flags().StringArrayVar(&in.Targets, "target", nil, "only at this target; may be repeated")
	return c
}

func (a *app) backupHold() *cobra.Command {
	var in backup.NewHold
	var from, until string
	list := false
	c := &cobra.Command{
		Use: "hold [BACKUP]", Short: "Keep backups from being removed",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly("BACKUP")(cmd, args)
			}
			return nil
		},
		Long: "Keeps one backup, or all that restoring any moment of a span needs, whatever the\nretention says, until the hold is released.",
		Example: `  foundry backup hold 20261130-021502F --reason "Evidence in a dispute" --ticket LEGAL-12
  foundry backup hold --from 2026-11-01 --until 2026-11-07 --reason "Evidence in a dispute" --ticket LEGAL-12 --target offsite
  foundry backup hold --list`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return listOf(a, cmd.Context(), "/api/v1/backup-holds", tableOfHolds)
			}
			if len(args) == 1 {
				in.Label = args[0]
			}
			for _, day := range []struct {
				text, field string
				to          *time.Time
				add         time.Duration
			}{{from, "from", &in.From, 0}, {until, "until", &in.Until, 24*time.Hour - time.Second}} {
				if day.text == "" {
					continue
				}
				t, err := time.Parse(time.DateOnly, day.text)
				if err != nil {
					return problem.New(problem.Invalid, "date", fmt.Sprintf("%q is not a date.", day.text)).WithField(day.field).WithMend("Write it as 2026-11-30.")
				}
				*day.to = t.Add(day.add)
			}
			var h backup.Hold
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/backup-holds", in, &h); err != nil {
				return err
			}
			return a.print(h, func(w io.Writer) {
				fmt.Fprintf(w, "Held. Release it with: foundry backup release %s --reason …\n", h.ID)
			})
		},
	}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, in a sentence")
	c.Flags().StringVar(&in.Ticket, "ticket", "", "the case or ticket that it belongs to")
	c.Flags().StringVar(&in.Target, "target", "", "only at this target")
	c.Flags().StringVar(&from, "from", "", "first day of a span")
	c.Flags().StringVar(&until, "until", "", "last day of a span")
	c.Flags().BoolVar(&list, "list", false, "list holds")
	return c
}

func (a *app) backupRelease() *cobra.Command {
	reason := ""
	c := &cobra.Command{
		Use: "release HOLD", Short: "End a hold", Args: exactly("HOLD"),
		Long:    "Ends a hold. What it kept goes with the next expiry, if it is older than the\nretention and nothing else holds it.",
		Example: `  foundry backup release 01a2f0c4-… --reason "The dispute is settled"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var h backup.Hold
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/backup-holds/"+url.PathEscape(args[0])+"/release", map[string]string{"reason": reason}, &h); err != nil {
				return err
			}
			return a.print(h, func(w io.Writer) { fmt.Fprintln(w, "Released.") })
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why these backups may go")
	_ = c.MarkFlagRequired("reason")
	return c
}

func (a *app) backupTargets() *cobra.Command {
	c := &cobra.Command{
		Use: "targets", Short: "Show the places of backups", Args: exactly(),
		Long:    "Shows where backups go, how much room is left, what could be restored from each,\nand what makes a target share a fate with the data.",
		Example: "  foundry backup targets\n  foundry backup targets --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listOf(a, cmd.Context(), "/api/v1/backup-targets", tableOfTargets)
		},
	}
	c.AddCommand(a.probeTargets())
	return c
}

func (a *app) probeTargets() *cobra.Command {
	return &cobra.Command{
		Use: "probe [TARGET…]", Short: "Try whether targets can be reached and written",
		Long:    "Reaches every target, or the named ones, writes a small file there, reads it and\nremoves it where the target lets this node; says how much room is left, who can\ndelete what is there, and whether the target shares a fate with the data.\n\nThe exit code tells what came of it: 0 all is well; 1 no backup gets to a target;\n3 something should be better.",
		Example: "  foundry backup targets probe\n  foundry backup targets probe offsite --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []backup.TargetProbe
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/backup-probes", backup.TargetRequest{Targets: args}, &all); err != nil {
				return err
			}
			worst := backup.Pass
			for _, p := range all {
				if p.Outcome == backup.Fail || p.Outcome != backup.Pass && worst == backup.Pass {
					worst = p.Outcome
				}
			}
			if err := a.print(all, func(w io.Writer) { describeProbes(w, all) }); err != nil {
				return err
			}
			return outcomeCode(worst)
		},
	}
}

// job starts a job, follows it to its end and tells what came of it.
func (a *app) job(ctx context.Context, path string, in any) error {
	j, err := a.startJob(ctx, path, in)
	if err != nil {
		return err
	}
	if err := a.awaitJob(ctx, &j); err != nil {
		return err
	}
	if j.Kind == backup.KindDrill && len(j.Runs) == 1 && j.Runs[0].Drill != nil {
		return a.showDrill(ctx, j.Runs[0].Drill.String())
	}
	if err := a.print(j, func(w io.Writer) { describeJob(w, j) }); err != nil {
		return err
	}
	if j.State != backup.Done {
		return standingError{1}
	}
	return nil
}

// patience is how long a command waits for another run of the same kind.
const patience = 30 * time.Minute

// startJob starts a job, after one of the same kind that runs already.
func (a *app) startJob(ctx context.Context, path string, in any) (j backup.Job, err error) {
	until := time.Now().Add(patience)
	for said := false; ; said = true {
		err = a.call(ctx, http.MethodPost, path, in, &j)
		if err == nil || problem.From(err).Code != "backup-running" || time.Now().After(until) {
			return j, err
		}
		if !said && !a.json {
			fmt.Fprintln(a.err, "Waiting for one that is running already.")
		}
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// awaitJob follows a job and shows a person how far it is.
func (a *app) awaitJob(ctx context.Context, j *backup.Job) error {
	person := terminal(a.err) && !a.json
	for j.State == backup.Running {
		if person {
			fmt.Fprint(a.err, "\r\033[K"+progressLine(j.Runs))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if err := a.call(ctx, http.MethodGet, "/api/v1/backup-jobs/"+j.ID.String(), nil, j); err != nil {
			return err
		}
	}
	if person {
		fmt.Fprint(a.err, "\r\033[K")
	}
	return nil
}

// progressLine shows the run that is being made as a bar.
func progressLine(runs []backup.Run) string {
	done := 0
	for _, r := range runs {
		if r.State != backup.Running {
			done++
		}
	}
	for _, r := range runs {
		if r.State != backup.Running {
			continue
		}
		line := fmt.Sprintf("%d of %d  %s at %s  ", done+1, len(runs), r.Subject, r.Target)
		if p := r.Progress; p.Total > 0 {
			const width = 24
			n := int(min(p.Done, p.Total) * width / p.Total)
			line += "[" + strings.Repeat("#", n) + strings.Repeat(" ", width-n) + fmt.Sprintf("] %d%%  ", min(p.Done, p.Total)*100/p.Total)
		}
		return line + shortened(r.Progress.What, 40)
	}
	return ""
}
