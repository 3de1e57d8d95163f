package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db"
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
