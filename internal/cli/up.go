package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) up() *cobra.Command {
	var file, https, http string
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a node: database, gateway and console on one machine",
		Long: `Starts everything on this machine with nothing to configure: a private
PostgreSQL in the data directory, a local certificate authority, the gateway
and the console. It stays in the foreground; stop it with Ctrl-C.

The first start makes an organisation and prints its API key, once.`,
		Example: `  foundry up
  foundry up --data-dir /var/lib/foundry --https 0.0.0.0:443 --http 0.0.0.0:80
  foundry up --config /etc/foundry/foundry.yaml`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(file)
			if err != nil {
				return err
			}
			if https != "" {
				cfg.Listen.HTTPS = https
			}
			if http != "" {
				cfg.Listen.HTTP = http
			}
			return a.runNode(cmd.Context(), cfg)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file (YAML)")
	c.Flags().StringVar(&https, "https", "", "address of the TLS 1.3 listener (default localhost:8443)")
	c.Flags().StringVar(&http, "http", "", "address that redirects to HTTPS (default localhost:8080); off for none")
	return c
}

// load reads the configuration file, if there is one, and lets --data-dir win.
func (a *app) load(file string) (daemon.Config, error) {
	var cfg daemon.Config
	if file != "" {
		if err := config.Load(file, &cfg); err != nil {
			return cfg, err
		}
	}
	if a.dataDir != "" {
		cfg.DataDir = a.dataDir
	}
	return cfg, nil
}

func (a *app) runNode(ctx context.Context, cfg daemon.Config) error {
	return a.runProcess(ctx, cfg, daemon.Start)
}

// runProcess starts a process and stops it when it is told to.
func (a *app) runProcess(ctx context.Context, cfg daemon.Config, start func(context.Context, daemon.Options) (*daemon.Daemon, error)) error {
	log, err := a.logger(cfg.Log)
	if err != nil {
		return err
	}
	progress := func(string) {}
	if terminal(a.err) {
		progress = func(step string) { fmt.Fprintf(a.err, "\r\033[K%s…", step) }
	}
	began := time.Now()
	d, err := start(ctx, daemon.Options{Config: cfg, Version: a.version, Log: log, Progress: progress, Passphrase: a.askPassphrase})
	if terminal(a.err) {
		fmt.Fprint(a.err, "\r\033[K")
	}
	if err != nil && ctx.Err() != nil {
		return problem.New(problem.Canceled, "start-interrupted", "The start was interrupted.").Wrap(err)
	}
	if err != nil {
		return err
	}
	if d.Gateway() {
		a.greet(d, time.Since(began))
	} else {
		a.greetMember(d, time.Since(began))
	}
	err = d.Wait(ctx)
	if !a.json && d.Gateway() {
		fmt.Fprintln(a.out, "\nStopping: finishing requests, shipping the journal, closing the database.")
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 40*time.Second)
	defer cancel()
	if serr := d.Stop(stop); err == nil {
		err = serr
	}
	return err
}

// greet says where the node is and what to do next.
func (a *app) greet(d *daemon.Daemon, took time.Duration) {
	if f := d.Fence(); f != nil {
		_ = a.print(map[string]any{"url": d.URL(), "mode": d.Mode(), "data_dir": d.DataDir(), "ca": daemon.AuthorityFile(d.DataDir()), "fenced": f}, func(w io.Writer) {
			fmt.Fprintf(w, "This node is FENCED and does nothing: %s\n  → %s\n\n  URL\t%s\n  Data\t%s\n", f.Reason, f.Mend, d.URL(), d.DataDir())
		})
		return
	}
	s := d.Status()
	ca := daemon.AuthorityFile(d.DataDir())
	_ = a.print(map[string]any{"url": s.URL, "ca": ca, "first_key": d.FirstKey, "mode": s.Mode, "data_dir": s.DataDir, "ready_ms": took.Milliseconds()}, func(w io.Writer) {
		fmt.Fprintf(w, "Foundry %s is ready after %.1f s (mode: %s).\n\n", s.Version, took.Seconds(), s.Mode)
		fmt.Fprintf(w, "  URL\t%s\n  Data\t%s\n  CA\t%s\n", s.URL, s.DataDir, ca)
		for _, p := range s.Providers {
			note := fmt.Sprintf("%d models", p.Models)
			if p.Simulated {
				note += " (a simulator: it answers offline and is no model)"
			}
			fmt.Fprintf(w, "  Provider\t%s: %s\n", p.Name, note)
		}
		if s.Mode == daemon.Development {
			fmt.Fprintf(w, "  Country\t%s", s.Country)
			if s.CountryAssumed {
				fmt.Fprint(w, " (assumed; set node.country)")
			}
			fmt.Fprintln(w)
		}
		if d.FirstKey != "" {
			fmt.Fprintf(w, "\nYour first API key, shown only now:\n\n  %s\n", d.FirstKey)
		}
		fmt.Fprintln(w, "\nTry it from another terminal:")
		key := d.FirstKey
		if key == "" {
			key = "$FOUNDRY_KEY"
		}
		fmt.Fprintf(w, "\n  curl --cacert %s %s/v1/chat/completions \\\n    -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \\\n    -d '{\"model\": \"routine\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'\n\n", relative(ca), s.URL, key)
		fmt.Fprintf(w, "  %s console      # a sign-in link for the console\n  %s key create --org %s --name my-app\n", self(), self(), daemon.FirstOrganisation)
	})
}

// self is how this program was called.
func self() string {
	if len(os.Args) > 0 && os.Args[0] != "" {
		return relative(os.Args[0])
	}
	return "foundry"
}

func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || len(rel) >= len(path) || rel == "" {
		return path
	}
	return rel
}

func (a *app) logger(c daemon.LogConfig) (*slog.Logger, error) {
	level := slog.LevelInfo
	if c.Level != "" {
		if err := level.UnmarshalText([]byte(c.Level)); err != nil {
			return nil, problem.New(problem.Invalid, "log-level", fmt.Sprintf("%q is not a log level.", c.Level)).WithField("log.level").WithMend("Use debug, info, warn or error.")
		}
	} else if terminal(a.err) {
		level = slog.LevelWarn // a person at a terminal sees what needs them
	}
	o := &slog.HandlerOptions{Level: level}
	switch {
	case c.Format == "json", c.Format == "" && !terminal(a.err):
		return slog.New(slog.NewJSONHandler(a.err, o)), nil
	case c.Format == "text", c.Format == "":
		return slog.New(slog.NewTextHandler(a.err, o)), nil
	}
	return nil, problem.New(problem.Invalid, "log-format", fmt.Sprintf("%q is not a log format.", c.Format)).WithField("log.format").WithMend("Use text or json.")
}

// terminal reports whether a person is likely to be reading w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Sys().(*syscall.Stat_t).Rdev != nullDevice
}

// nullDevice is the device number of /dev/null (1, 3), which is a character
// device that nobody reads.
const nullDevice = 1<<8 | 3
