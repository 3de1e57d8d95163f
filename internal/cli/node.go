package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the node is", Args: exactly(), Example: "  foundry status\n  foundry status --json | jq .readiness",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s daemon.Status
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/status", nil, &s); err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) {
				fmt.Fprintf(w, "Foundry %s\t%s\n", s.Version, s.Readiness.Status)
				fmt.Fprintf(w, "URL\t%s\nMode\t%s\nUp since\t%s\n", s.URL, s.Mode, s.Started.Local().Format(time.DateTime))
				fmt.Fprintf(w, "Database\t%s\n", map[bool]string{true: "answers", false: "does not answer"}[s.Database.Healthy])
				for _, l := range s.Database.Fleet.Lines(time.Now()) {
					fmt.Fprintf(w, "%s\t%s\n", l[0], l[1])
				}
				if p := s.Database.Patroni; p != nil {
					fmt.Fprintf(w, "Patroni\t%s\n", strings.TrimSpace(p.Stale+" "+p.Words))
				}
				if s.Readiness.Authority != "" && s.Readiness.Authority != "ok" {
					fmt.Fprintf(w, "Certificates\t%s\n", s.Readiness.Authority)
				}
				fmt.Fprintf(w, "Keys and policies\t%s old\n", s.Readiness.SnapshotAge.Round(time.Second))
				fmt.Fprintf(w, "Journal\t%d events waiting, %d segments, %s\n", s.Readiness.Queue, s.Journal.Segments, s.Readiness.Journal)
				for _, p := range s.Providers {
					health := "not probed yet"
					if p.Health != nil && p.Health.OK {
						health = fmt.Sprintf("ok in %s", p.Health.Latency.Round(time.Millisecond))
					} else if p.Health != nil {
						health = p.Health.Error
					}
					fmt.Fprintf(w, "Provider %s\t%s, circuit %s, %d models\n", p.Name, health, p.Circuit, p.Models)
				}
			})
		},
	}
}

func (a *app) console() *cobra.Command {
	return &cobra.Command{
		Use: "console", Short: "Print a one-time sign-in link for the console", Args: exactly(), Example: "  foundry console",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l api.Link
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/console/links", nil, &l); err != nil {
				return err
			}
			return a.print(l, func(w io.Writer) {
				fmt.Fprintf(w, "%s\n\nThe link works once, until %s. Your browser must trust the certificate: `foundry ca`.\n", l.URL, l.ExpiresAt.Local().Format(time.TimeOnly))
			})
		},
	}
}

func (a *app) ca() *cobra.Command {
	return &cobra.Command{
		Use: "ca", Short: "Print the local certificate authority", Args: exactly(),
		Long:    "Prints the certificate that clients must trust, in PEM. It is no secret.",
		Example: "  foundry ca > foundry-ca.pem\n  NODE_EXTRA_CA_CERTS=foundry-ca.pem node app.mjs",
		RunE: func(*cobra.Command, []string) error {
			text, err := os.ReadFile(daemon.AuthorityFile(a.dir()))
			if err != nil {
				return problem.New(problem.NotFound, "ca-missing", fmt.Sprintf("There is no certificate authority in %s.", a.dir())).
					WithMend("It is made by the first `foundry up`; or name another --data-dir.").Wrap(err)
			}
			return a.print(map[string]string{"pem": string(text), "file": daemon.AuthorityFile(a.dir())}, func(w io.Writer) { _, _ = w.Write(text) })
		},
	}
}

func (a *app) config() *cobra.Command {
	check := &cobra.Command{
		Use: "check FILE", Short: "Check a configuration file", Args: exactly("FILE"), Example: "  foundry config check /etc/foundry/foundry.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			var cfg daemon.Config
			if err := config.Load(args[0], &cfg); err != nil {
				return err
			}
			if err := cfg.Check(); err != nil {
				return err
			}
			return a.print(map[string]any{"file": args[0], "ok": true}, func(w io.Writer) { fmt.Fprintf(w, "%s is valid.\n", args[0]) })
		},
	}
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration", Args: exactly(),
		Example: "  foundry config schema > foundry.schema.json",
		RunE: func(*cobra.Command, []string) error {
			text, err := config.Schema(&daemon.Config{}, "Foundry configuration")
			if err != nil {
				return err
			}
			_, err = a.out.Write(append(text, '\n'))
			return err
		},
	}
	return group("config", "Check and describe the configuration", check, schema)
}

func (a *app) database() *cobra.Command {
	sql := &cobra.Command{
		Use: "roles", Short: "Print the SQL that makes the roles on an external PostgreSQL", Args: exactly(),
		Example: "  foundry database roles | psql -h db1 -U postgres foundry",
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.out, db.RolesSQL())
			return err
		},
	}
	var file string
	migrate := &cobra.Command{
		Use: "migrate", Short: "Bring an external database's schema up to date, without starting a node", Args: exactly(),
		Example: "  foundry database migrate --config /etc/foundry/foundry.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(file)
			if err != nil {
				return err
			}
			log, err := a.logger(cfg.Log)
			if err != nil {
				return err
			}
			if err := daemon.Migrate(cmd.Context(), cfg, log); err != nil {
				return err
			}
			return a.print(map[string]int{"version": db.SchemaVersion}, func(w io.Writer) { fmt.Fprintf(w, "The schema is at version %d.\n", db.SchemaVersion) })
		},
	}
	migrate.Flags().StringVar(&file, "config", "", "configuration file (YAML) that names the database")
	return group("database", "Work with the database", sql, migrate, a.databaseRejoin(), a.databaseReconcile(), a.databaseWatchdog(), a.patroni())
}

func (a *app) journal() *cobra.Command {
	var file string
	inspect := &cobra.Command{
		Use: "inspect", Short: "Check the journal's files, without a running node", Args: exactly(),
		Long:    "Checks the journal's files. Where the key-encryption key is not in the data\ndirectory, --config names the file that says where it is.",
		Example: "  foundry journal inspect\n  foundry journal inspect --config /etc/foundry/foundry.yaml",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load(file)
			if err != nil {
				return err
			}
			if cfg.DataDir == "" {
				cfg.DataDir = a.dir()
			}
			dir := filepath.Join(cfg.DataDir, "journal")
			if _, err := os.Stat(dir); err != nil { // or else opening would make new keys there
				return problem.New(problem.NotFound, "journal-missing", "There is no journal in "+cfg.DataDir+".").WithMend("Name the node's data directory with --data-dir.").Wrap(err)
			}
			ring, err := daemon.OpenKeyring(cfg, a.askPassphrase)
			if err != nil {
				return err
			}
			reports, err := journal.Inspect(dir, ring.Open)
			if err != nil {
				return err
			}
			return a.print(reports, func(w io.Writer) {
				fmt.Fprintln(w, "SEGMENT\tBOOT\tFIRST\tLAST\tBYTES\tSTATE")
				for _, r := range reports {
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", r.Segment, r.Boot, r.First, r.Last, r.Bytes, r.State)
				}
			})
		},
	}
	inspect.Flags().StringVar(&file, "config", "", "configuration file (YAML) that names the key-encryption key")
	return group("journal", "Look into the journal", inspect)
}

// simulator runs an upstream simulator as a process of its own, for tests and
// load measurements.
func (a *app) simulator() *cobra.Command {
	var listen, format string
	var bench bool
	var firstByte time.Duration
	c := &cobra.Command{
		Use: "simulator", Short: "Run an upstream simulator", Hidden: true, Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "simulator (%s) at http://%s\n", format, l.Addr())
			var srv *http.Server
			if bench {
				srv = &http.Server{Handler: simulator.NewBench(firstByte), ReadHeaderTimeout: 10 * time.Second}
				go func() { _ = srv.Serve(l) }()
			} else {
				srv = simulator.Serve(l, simulator.New(simulator.Options{Format: simulator.Format(format), FirstByte: firstByte, Forget: true, Commands: true}))
			}
			<-cmd.Context().Done()
			return srv.Close()
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address")
	c.Flags().StringVar(&format, "format", "openai", "wire format: openai, anthropic, mistral, ollama or openai-compatible")
	c.Flags().BoolVar(&bench, "bench", false, "answer as cheaply as possible, for load measurements")
	c.Flags().DurationVar(&firstByte, "first-byte", 0, "delay before the first byte")
	return c
}

// reference writes the references that are generated from the code.
func (a *app) reference() *cobra.Command {
	return &cobra.Command{
		Use: "reference cli|configuration|roles|api|plan-rules", Short: "Print a generated reference", Hidden: true, Args: exactly("SUBJECT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "cli":
				fmt.Fprintln(a.out, "# Command line")
				return writeReference(a.out, cmd.Root())
			case "configuration":
				return writeConfiguration(a.out)
			case "roles":
				return writeRoles(a.out)
			case "plan-rules":
				return writePlanRules(a.out)
			case "api":
				text, err := api.New(api.Options{Version: "v1"}).OpenAPI()
				if err != nil {
					return err
				}
				_, err = a.out.Write(text)
				return err
			}
			return usageError{fmt.Errorf("there is no reference of %q", args[0])}
		},
	}
}

func writeReference(w io.Writer, c *cobra.Command) error {
	c.DisableAutoGenTag = true
	if c.HasParent() && !c.Hidden && c.Name() != "help" {
		var text strings.Builder
		if err := doc.GenMarkdownCustom(c, &text, func(s string) string { return "#" + strings.ReplaceAll(strings.TrimSuffix(s, ".md"), "_", "-") }); err != nil {
			return err
		}
		body, _, _ := strings.Cut(text.String(), "### SEE ALSO")
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(body))
	}
	for _, child := range c.Commands() {
		if child.Name() == "completion" {
			continue
		}
		if err := writeReference(w, child); err != nil {
			return err
		}
	}
	return nil
}
