package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) databaseRejoin() *cobra.Command {
	return &cobra.Command{
		Use: "rejoin", Short: "Let a node go on whose copy of the fleet's database stays down", Args: exactly(),
		Long: `A node that was the primary of the fleet's database, and comes back after
another took over, keeps its database down. This puts its data aside, beside
where they lay: nothing is deleted, since what it had written and nobody else has
is found there. A node that was only fenced may start its database again; at its
start it asks the fleet, and stays down unless it is still named.

The node is stopped meanwhile.`,
		Example: "  foundry database rejoin --data-dir /var/lib/foundry",
		RunE: func(*cobra.Command, []string) error {
			kept, err := daemon.RejoinDatabase(a.dir())
			if err != nil {
				return err
			}
			return a.print(map[string]string{"kept": kept}, func(w io.Writer) {
				if kept == "" {
					fmt.Fprintln(w, "The fence is lifted. Start the node: it asks the fleet whether it may run the database.")
					return
				}
				fmt.Fprintf(w, "The data are kept in %s. Start the node: it follows the database on the other.\n", kept)
			})
		},
	}
}

func (a *app) databaseReconcile() *cobra.Command {
	var scratch, out, incident string
	c := &cobra.Command{
		Use: "reconcile DIR", Short: "List what a database that was left has and the fleet's lacks", Args: exactly("DIR"),
		Long: `For the disk of a former primary that comes back after another node took over.
Finds where the two parted, by the Merkle trees of their audit logs, and lists
the acts and the events of the ledger that only the old one has, which requests
have an outcome there only, and what its journal had not shipped.

DIR is on the node that is asked: the data directory of the old node, which is
stopped, or what ` + "`foundry database rejoin`" + ` put aside. It is only read: the old
database is copied, the copy is started apart from everything, and thrown away.
The list names writes and holds nothing of what was asked or answered.`,
		Example: "  foundry database reconcile /mnt/old/foundry\n  foundry database reconcile /var/lib/foundry/postgres.aside-20261123T031500.000 --out lost.json --incident latest",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			body := map[string]string{"dir": dir}
			if scratch != "" {
				if body["scratch"], err = filepath.Abs(scratch); err != nil {
					return err
				}
			}
			var r api.Reconciliation
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/fleet/database/reconciliations", body, &r); err != nil {
				return err
			}
			if err := a.keepReconciliation(cmd, r, out, incident); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { printReconciliation(w, r) })
		},
	}
	f := c.Flags()
	f.StringVar(&scratch, "scratch", "", "directory for the copy of the database; default: that of the drills")
	f.StringVar(&out, "out", "", "write the list into this file too, as JSON")
	f.StringVar(&incident, "incident", "", "keep the list as evidence of this incident")
	return c
}

// keepReconciliation writes the list where it is asked for: into a file, and
// into an incident's evidence.
func (a *app) keepReconciliation(cmd *cobra.Command, r api.Reconciliation, out, incident string) error {
	if out == "" && incident == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if out == "" {
		dir, err := os.MkdirTemp("", "foundry-reconcile-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		out = filepath.Join(dir, "reconciliation.json")
	}
	if err := os.WriteFile(out, append(text, '\n'), 0o600); err != nil {
		return problem.New(problem.Invalid, "file-unwritable", "The file cannot be written: "+out+".").WithField("out").Wrap(err)
	}
	if incident == "" {
		return nil
	}
	quiet := *a
	quiet.out = io.Discard
	add := quiet.evidenceAdd()
	add.SetArgs([]string{incident, out, "--name", "reconciliation.json", "--how", "foundry database reconcile " + r.Dir})
	add.SilenceErrors, add.SilenceUsage = true, true
	return add.ExecuteContext(cmd.Context())
}

// printedEvents is how many of each kind a terminal is shown.
const printedEvents = 50

func printReconciliation(w io.Writer, r api.Reconciliation) {
	f := r.Fork
	fmt.Fprintf(w, "%s\n\n", r.Dir)
	fmt.Fprintf(w, "Parted after\t%d entries of the audit tree that both have, the newest of %s\n", f.Shared, instantText(f.At))
	fmt.Fprintf(w, "Since then\t%d there, %d in the fleet's database\n", f.Old-f.Shared, f.New-f.Shared)
	if r.OldEpoch > 0 || r.Epoch > 0 {
		fmt.Fprintf(w, "Epochs\t%d there, %d of the fleet\n", r.OldEpoch, r.Epoch)
	}
	fmt.Fprintf(w, "Lost acts\t%d\n", r.Acts)
	fmt.Fprintf(w, "Lost events\t%d of the ledger, of those since %s\n", r.Ledger.Count, instantText(r.Ledger.Since))
	fmt.Fprintf(w, "Indeterminate\t%d requests whose outcome only the old one has\n", len(r.Ledger.Indeterminate))
	fmt.Fprintf(w, "In both\t%d events since then: the backup had them, or a journal shipped them again\n", r.Ledger.Replayed)
	if t := r.Journal; t != nil {
		fmt.Fprintf(w, "Journal\t%d records that the fleet's database lacks (%d requests, %d outcomes, %d refusals); %d requests without an outcome\n", t.Records, t.Requests, t.Outcomes, t.Refusals, t.Open)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "Note\t%s\n", n)
	}
	if len(r.Audit) > 0 {
		fmt.Fprint(w, "\nLOST ACT\tAT\tACTOR\tTARGET\tORGANISATION\n")
	}
	for i, e := range r.Audit {
		if i == printedEvents {
			fmt.Fprintf(w, "… and %d more: --json has them\n", r.Acts-i)
			break
		}
		fmt.Fprintf(w, "%s (%s)\t%s\t%s\t%s\t%s\n", e.Act, e.Outcome, instantText(e.At), e.Actor, e.Target, e.Organisation)
	}
	if len(r.Ledger.Events) > 0 {
		fmt.Fprint(w, "\nLOST EVENT\tAT\tNODE, START, PLACE\tORGANISATION\tIN THE OLD JOURNAL\n")
	}
	for i, e := range r.Ledger.Events {
		if i == printedEvents {
			fmt.Fprintf(w, "… and %d more: --json has them\n", r.Ledger.Count-i)
			break
		}
		fmt.Fprintf(w, "%s\t%s\t%d, %d, %d\t%s\t%s\n", e.Kind, instantText(e.At), e.Node, e.Boot, e.Seq, e.Organisation, map[bool]string{true: "yes: shipped when that node runs", false: "no"}[e.Journal])
	}
}

func instantText(t time.Time) string {
	if t.IsZero() {
		return "the beginning"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// databaseWatchdog is started by the process that runs the fleet's database.
func (a *app) databaseWatchdog() *cobra.Command {
	return &cobra.Command{
		Use: "watchdog DIR", Hidden: true, Short: "End the server of a data directory when its time is over", Args: exactly("DIR"),
		Long: `Reads moments since the machine began, in nanoseconds, one a line, from standard
input, and ends every process of the PostgreSQL server in DIR when the last of
them has passed, or standard input has ended. A node that runs the fleet's
database starts it by itself.`,
		Example: "  foundry database watchdog /var/lib/foundry/postgres/data",
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if real, err := filepath.EvalSymlinks(data); err == nil {
				data = real
			}
			return db.Watchdog(cmd.Context(), data, os.Stdin, os.Stdout)
		},
	}
}
