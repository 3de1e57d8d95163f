package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/problem"
)

func (a *app) glassDrill() *cobra.Command {
	var f recoverFlags
	var contact bool
	var base, record string
	c := &cobra.Command{
		Use: "drill --kit FILE", Short: "Restore with nothing but the kit and the shares, prove it, and throw it away", Args: exactly(),
		Long: `Restores the node from the kit, the shares that people type and a target, into a
directory that is removed again, and proves what it restored. It uses nothing of
a node that may run here, so that it shows whether the kit alone would do. The
emergency contact should do this alone once a year (--contact).

Where a node runs on the data directory, the result is entered there; otherwise
--record keeps the signed record.`,
		Example: "  foundry breakglass drill --kit foundry-kit-1a2b3c4d.age --contact\n  foundry breakglass drill --kit kit.age --shares-from shares.txt --scratch /srv/scratch --record drill.txt",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.drillKit(cmd.Context(), f, contact, base, record) },
	}
	f.add(c)
	c.Flags().StringVar(&f.target, "target", "", "restore from this target")
	c.Flags().StringArrayVar(&f.paths, "target-path", nil, "where the directory of a target is on this machine: NAME=PATH")
	c.Flags().StringVar(&base, "scratch", "", "directory with room for the database (default: the system's temporary directory)")
	c.Flags().StringVar(&record, "record", "", "file for the signed record")
	c.Flags().BoolVar(&contact, "contact", false, "the emergency contact does this alone")
	if err := c.MarkFlagRequired("kit"); err != nil {
		panic(err) // the flag is there
	}
	return c
}

func (a *app) drillKit(ctx context.Context, f recoverFlags, contact bool, base, record string) error {
	o, h, err := f.options(a)
	if err != nil {
		return err
	}
	if o.Shares, err = a.readShares(ctx, f.shareFlags); err != nil {
		return err
	}
	place, err := scratchPlace(base)
	if err != nil {
		return err
	}
	defer func() { _ = place.Remove(context.WithoutCancel(ctx)) }()
	o.DataDir, o.Configure = filepath.Join(place.Dir, "node"), nil
	var wipe func()
	if o.KEK, wipe, err = drillKEK(place.Dir); err != nil {
		return err
	}
	defer wipe()
	r, err := backup.Recover(ctx, o)
	a.endProgress()
	n := backup.NewKitDrill{Set: h.Set.String(), ByContact: contact, Outcome: backup.Fail, KitMade: h.Created}
	if err != nil {
		if r == nil || ctx.Err() != nil {
			return err
		}
		n.Reason = problem.From(err).Detail
	} else {
		n.Outcome, n.Reason, n.Seconds = backup.Outcome(r.Proof.Outcome), r.Proof.Reason, r.Finished.Sub(r.Started).Seconds()
		if !r.Recovered.IsZero() {
			n.Recovered = &r.Recovered
		}
		signed, rerr := os.ReadFile(r.Evidence)
		if rerr != nil {
			return rerr
		}
		n.Evidence = string(signed)
	}
	if record != "" && n.Evidence != "" {
		if err := os.WriteFile(record, []byte(n.Evidence), 0o600); err != nil {
			return problem.New(problem.Unavailable, "record-file", "The record cannot be written: "+record+".").WithField("record").WithMend("Name a file that you may write.").Wrap(err)
		}
	}
	var noted backup.KitDrill
	missing := a.local(ctx, http.MethodPost, "/api/v1/emergency/drills", n, &noted)
	if err != nil {
		return err
	}
	perr := a.print(map[string]any{"drill": n.Outcome, "reason": n.Reason, "seconds": n.Seconds, "recovered_at": n.Recovered, "entered": missing == nil}, func(w io.Writer) {
		fmt.Fprint(w, r.Timeline())
		if missing != nil {
			fmt.Fprintf(w, "\nNot entered on a node: %s Keep this record.\n", problem.From(missing).Detail)
		}
	})
	if perr == nil && n.Outcome != backup.Pass {
		return problem.New(problem.Unavailable, "drill-"+string(n.Outcome), "The drill is not a pass: "+n.Reason).WithMend("Mend what it names, then drill again: until then the kit is not known to work.")
	}
	return perr
}

// scratchPlace is a directory for one drill, which a drill that was killed
// leaves to the next.
func scratchPlace(base string) (*scratch.Place, error) {
	if base == "" {
		base = os.TempDir()
	}
	base = filepath.Join(base, "foundry-drills")
	if _, err := scratch.Sweep(context.Background(), base, nil); err != nil {
		return nil, err
	}
	return scratch.Make(base)
}

// drillKEK is a file for the key-encryption key, in memory where the machine
// has such a place: a drill must not leave it on a disk.
func drillKEK(otherwise string) (path string, wipe func(), err error) {
	dir, err := os.MkdirTemp("/dev/shm", "foundry-drill-")
	if err != nil {
		if dir, err = os.MkdirTemp(otherwise, "kek-"); err != nil {
			return "", nil, err
		}
	}
	return filepath.Join(dir, "kek"), func() { _ = os.RemoveAll(dir) }, nil
}
