package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/problem"
)

// recoverFlags are the flags of recover.
type recoverFlags struct {
	shareFlags
	kit      string
	at       string
	target   string
	paths    []string
	kek      string
	dryRun   bool
	activate bool
	unproven bool
	reason   string
	takeOver string
	config   string
	stale    bool
}

func (a *app) recover() *cobra.Command {
	var f recoverFlags
	c := &cobra.Command{
		Use:   "recover --kit FILE | --take-over NODE | --activate",
		Short: "Bring a lost node back from its backups, with its emergency kit or with what it left for this node",
		Long: `Brings a node back on a machine that has nothing but this program, PostgreSQL,
pgBackRest and restic: finds the newest point that can be restored, says what
will be lost, restores keys, database, files and settings into an empty data
directory, proves what it restored, and prints a timeline to keep.

The shares of the recovery key are typed at the terminal, read from files, or
from the standard input; never from the command line. It may be interrupted at
any step: the same command goes on from there. What it recovered stays fenced,
and does nothing, until --activate. It never writes over data.

A node that the plan names as host or fallback of the lost one needs no kit: it
holds, sealed to its own key, what the lost node left for it. --take-over names
the lost node, and --config is of the node of this machine, which may go on
running. It is refused while the lost node answers, and where what is held is
of another fleet; what is older than what the lost node said last needs
--stale. Whoever runs the node of this machine may do it, with a --reason.

The runbooks are docs/runbooks/bare-machine.md and docs/runbooks/take-over.md.`,
		Example: `  foundry recover --kit foundry-kit-1a2b3c4d.age --dry-run
  foundry recover --kit foundry-kit-1a2b3c4d.age --data-dir /var/lib/foundry
  foundry recover --kit kit.age --share ada.txt --share grace.txt --at 2026-11-22T09:30:00Z
  foundry recover --take-over node-1 --config /etc/foundry/foundry.yaml --data-dir /var/lib/foundry-node-1 --reason "the server burnt"
  foundry recover --activate --data-dir /var/lib/foundry`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.activate:
				return a.activateRecovered(cmd.Context(), f)
			case f.takeOver != "":
				return a.takeOverNode(cmd.Context(), f)
			}
			return a.recoverNode(cmd.Context(), f)
		},
	}
	f.add(c)
	c.Flags().StringVar(&f.at, "at", "", "recover this moment (RFC 3339, such as 2026-11-22T09:30:00Z) instead of the newest")
	c.Flags().StringVar(&f.target, "target", "", "recover from this target instead of the one that has the newest point")
	c.Flags().StringArrayVar(&f.paths, "target-path", nil, "where the directory of a target is on this machine: NAME=PATH")
	c.Flags().StringVar(&f.kek, "kek", "", "file for the key-encryption key; in production on another volume than the data")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be recovered and what would be lost, and change nothing")
	c.Flags().BoolVar(&f.activate, "activate", false, "let a recovered node work")
	c.Flags().BoolVar(&f.unproven, "unproven", false, "with --activate: though the recovered point was not proven")
	c.Flags().StringVar(&f.reason, "reason", "", "with --take-over and --unproven: why")
	c.Flags().StringVar(&f.takeOver, "take-over", "", "the lost node, as the fleet knows it: recover it with what it left for the node of this machine")
	c.Flags().StringVar(&f.config, "config", "", "with --take-over: configuration file (YAML) of the node of this machine")
	c.Flags().BoolVar(&f.stale, "stale", false, "with --take-over: though the lost node changed keys or settings after it left this")
	c.MarkFlagsOneRequired("kit", "take-over", "activate")
	c.MarkFlagsMutuallyExclusive("kit", "take-over", "activate")
	c.MarkFlagsRequiredTogether("take-over", "config")
	return c
}

// add adds the flags that drills have too.
func (f *recoverFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.kit, "kit", "", "the emergency kit, foundry-kit-….age")
	f.shareFlags.add(c)
}

func (f *shareFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.files, "share", nil, "file with one share: its words, its line, or its printed page")
	c.Flags().StringVar(&f.all, "shares-from", "", "file with several shares, one on each line or in each paragraph")
	c.Flags().BoolVar(&f.hide, "hide", false, "do not show what is typed")
}

// readKit reads the kit's file, and says at once when it is none.
func readKit(path string) ([]byte, kit.Header, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, kit.Header{}, problem.New(problem.NotFound, "kit-missing", "The kit cannot be read: "+path+".").WithField("kit").
			WithMend("Copy it from a target: it is named foundry-kit-….age, and the briefing page says where copies lie.").Wrap(err)
	}
	h, err := kit.ReadHeader(body)
	return body, h, err
}

func (f recoverFlags) options(a *app) (o backup.RecoverOptions, h kit.Header, err error) {
	o = backup.RecoverOptions{DataDir: a.dir(), Target: f.target, DryRun: f.dryRun, Version: a.version, Progress: a.recoverProgress()}
	if o.Kit, h, err = readKit(f.kit); err != nil {
		return o, h, err
	}
	if o.At, o.KEK, o.Paths, err = f.places(); err != nil {
		return o, h, err
	}
	o.Configure = func(c kit.Content, dataDir, kek string) (string, error) {
		return daemon.AdaptSettings(c, dataDir, kek, o.Paths)
	}
	return o, h, nil
}

// places reads the flags that name a moment and places on this machine.
func (f recoverFlags) places() (at time.Time, kek string, paths map[string]string, err error) {
	if f.at != "" {
		if at, err = time.Parse(time.RFC3339, f.at); err != nil {
			return at, "", nil, problem.New(problem.Invalid, "recovery-at", fmt.Sprintf("%q is no moment.", f.at)).WithField("at").WithMend("Write it as 2026-11-22T09:30:00Z.")
		}
	}
	if f.kek != "" {
		if kek, err = filepath.Abs(f.kek); err != nil {
			return at, "", nil, err
		}
	}
	paths = map[string]string{}
	for _, p := range f.paths {
		name, path, ok := strings.Cut(p, "=")
		if !ok || name == "" || !filepath.IsAbs(path) {
			return at, "", nil, problem.New(problem.Invalid, "target-path", fmt.Sprintf("%q does not say where a target is.", p)).WithField("target-path").WithMend("Write NAME=/absolute/path.")
		}
		paths[name] = path
	}
	return at, kek, paths, nil
}

func (a *app) recoverNode(ctx context.Context, f recoverFlags) error {
	o, h, err := f.options(a)
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.err, "Kit of set %s, made %s.\n", h.Set, h.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if o.Shares, err = a.readShares(ctx, f.shareFlags); err != nil {
		return err
	}
	r, err := backup.Recover(ctx, o)
	return a.tellRecovered(r, err, f.dryRun, "up")
}

// takeOverNode recovers a lost node with what it left for the node of this
// machine.
func (a *app) takeOverNode(ctx context.Context, f recoverFlags) error {
	var holder daemon.Config // not by a.load: --data-dir is another's
	if err := config.Load(f.config, &holder); err != nil {
		return err
	}
	if holder.DataDir == "" {
		return problem.New(problem.Invalid, "take-over-config", f.config+" does not say where the data of this machine's node is.").WithField("data_dir").
			WithMend("Write data_dir into it; --data-dir is for what is recovered.")
	}
	o := daemon.TakeOverOptions{From: f.takeOver, Reason: f.reason, DataDir: a.dir(), Target: f.target, DryRun: f.dryRun, Stale: f.stale, Progress: a.recoverProgress()}
	var err error
	if o.At, o.KEK, o.Paths, err = f.places(); err != nil {
		return err
	}
	r, err := daemon.TakeOver(ctx, holder, a.version, a.askPassphrase, o)
	return a.tellRecovered(r, err, f.dryRun, "serve --role gateway")
}

// tellRecovered prints what a recovery brought, and what to do next.
func (a *app) tellRecovered(r *backup.Recovery, err error, dry bool, start string) error {
	a.endProgress()
	if err != nil {
		if r != nil && !a.json {
			fmt.Fprintf(a.err, "\n%s\n", r.Timeline())
		}
		return err
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprint(w, r.Timeline())
		if dry {
			fmt.Fprintf(w, "\nNothing was changed. About %s would be lost: what was written after %s.\nWithout --dry-run this is recovered into %s.\n",
				roughly(r.Lost), r.Reaches.UTC().Format("2006-01-02 15:04:05 UTC"), r.DataDir)
			return
		}
		fmt.Fprintf(w, "\nThe signed record is in %s: print it.\n\n", r.Evidence)
		if r.Proof == nil || r.Proof.Outcome != scratch.Pass {
			fmt.Fprintf(w, "THE RECOVERED POINT IS NOT PROVEN. Read the proof above before you go on.\n\n")
		}
		fmt.Fprintf(w, "The node is fenced: it does nothing yet. Make sure that the old one is off for good. Then:\n\n  %s recover --activate --data-dir %s\n", self(), r.DataDir)
		if r.Taken != nil {
			fmt.Fprintf(w, "\nIn the fleet it takes the place of the old one, whose certificates no longer count from then on. On a member:\n\n  %s node remove %s\n  %s node invite %s --roles gateway\n\nand here, with the token:\n\n  %s node join TOKEN --config %s\n",
				self(), r.Taken.From, self(), r.Taken.From, self(), r.Config)
		}
		fmt.Fprintf(w, "  %s %s --config %s\n", self(), start, r.Config)
	})
}

func roughly(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

func (a *app) activateRecovered(ctx context.Context, f recoverFlags) error {
	r, err := backup.Activate(ctx, backup.ActivateOptions{DataDir: a.dir(), Unproven: f.unproven, Reason: f.reason})
	if err != nil {
		return err
	}
	start := "up"
	if r.Taken != nil {
		start = "serve --role gateway"
	}
	return a.print(r, func(w io.Writer) {
		fmt.Fprintf(w, "The node may work. Start it, and make a full backup of what is now its own history:\n\n  %s %s --config %s\n  %s backup run --type full --data-dir %s\n", self(), start, r.Config, self(), r.DataDir)
		for _, n := range r.Notes {
			fmt.Fprintf(w, "\nnote: %s\n", n)
		}
	})
}

// recoverProgress shows where a recovery is: a line of its own on a terminal,
// otherwise a line for each step.
func (a *app) recoverProgress() func(step string, done, total int64, what string) {
	shown := ""
	return func(step string, done, total int64, what string) {
		if !terminal(a.err) {
			if step != shown {
				shown = step
				fmt.Fprintf(a.err, "step: %s\n", step)
			}
			return
		}
		line := step
		if total > 0 {
			const width = 24
			full := int(min(done, total) * width / total)
			line += fmt.Sprintf("  [%s%s] %3d%%", strings.Repeat("=", full), strings.Repeat(" ", width-full), min(done, total)*100/total)
		}
		if what != "" {
			line += "  " + what
		}
		fmt.Fprintf(a.err, "\r\033[K%.100s", line)
	}
}

func (a *app) endProgress() {
	if terminal(a.err) {
		fmt.Fprint(a.err, "\r\033[K")
	}
}
