package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// forkMargin is how much older than the fork an event may be and still have
// been written after it: gateways ship what their journals kept meanwhile.
const forkMargin = 24 * time.Hour

// longestReconciliation bounds the lists of one; the counts are whole.
const longestReconciliation = 10_000

// reconcile compares the database that lies in dir, of a node that was the
// primary once, with the one in use. It reads: dir is copied, and the copy is
// started apart from everything and thrown away.
func (d *Daemon) reconcile(ctx context.Context, p principal.Principal, dir, base string) (*api.Reconciliation, error) {
	if err := d.guard.Authorise(ctx, p, "recovery.act", policy.Resource{}); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(dir) || base != "" && !filepath.IsAbs(base) {
		return nil, problem.New(problem.Invalid, "reconcile-dir", "The directory is named from the root.").WithField("dir").WithMend("Give a path that begins with /.")
	}
	if c := d.cluster.Load(); c != nil && within(c.DataDir(), dir) {
		return nil, problem.New(problem.Conflict, "reconcile-in-use", "This is the database in use.").WithField("dir").WithMend("Name the directory of the old one.")
	}
	base = cmp.Or(base, d.config.Backup.WithDefaults().ScratchDir, filepath.Join(d.config.DataDir, "scratch"))
	r, err := reconcileOld(ctx, reconciling{db: d.db, base: base, binDir: d.config.Database.BinDir, seal: d.keyring.Seal, open: d.keyring.Open, log: d.log}, dir)
	if err != nil {
		return nil, err
	}
	r.Made, r.Epoch = d.clock().UTC(), d.epochs.Highest()
	return r, d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, "database.reconcile", dir, map[string]any{"acts": r.Acts, "events": r.Ledger.Count,
			"indeterminate": len(r.Ledger.Indeterminate), "replayed": r.Ledger.Replayed, "shared": r.Fork.Shared, "old": r.Fork.Old, "new": r.Fork.New})
	})
}

// within says whether a path is dir or below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// reconciling is what a comparison works with.
type reconciling struct {
	db         *db.DB // that goes on
	base       string // where the copy lies meanwhile
	binDir     string
	seal, open func(data, associated []byte) ([]byte, error)
	log        *slog.Logger
}

func reconcileOld(ctx context.Context, o reconciling, dir string) (_ *api.Reconciliation, err error) {
	cluster, journalDir, err := oldParts(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(cluster, "data")
	if err := refuseRunning(data); err != nil {
		return nil, err
	}
	place, err := scratch.Make(o.base)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, place.Remove(context.WithoutCancel(ctx))) }()
	if err := copyOld(ctx, data, place.Data(), o.base); err != nil {
		return nil, err
	}
	copy, err := scratch.Start(ctx, scratch.Options{Dir: place.Dir, BinDir: o.binDir, Log: o.log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, copy.Stop(context.WithoutCancel(ctx))) }()

	r := &api.Reconciliation{Dir: dir, OldEpoch: epochIn(cluster)}
	if r.Fork, err = audit.FindFork(ctx, copy.DB(), o.db); err != nil {
		return nil, err
	}
	if r.Audit, r.Acts, err = r.Fork.LostEntries(ctx, copy.DB(), o.db, longestReconciliation); err != nil {
		return nil, err
	}
	since := r.Fork.At
	if !since.IsZero() {
		since = since.Add(-forkMargin)
	}
	if r.Ledger, err = ledger.FindLost(ctx, copy.DB(), o.db, since, longestReconciliation); err != nil {
		return nil, err
	}
	if journalDir == "" {
		r.Notes = append(r.Notes, "There is no journal beside it: what its gateway had not shipped is not known from here.")
		return r, nil
	}
	if err := o.tail(ctx, r, dir, journalDir, filepath.Join(place.Dir, "journal")); err != nil {
		r.Notes = append(r.Notes, "The journal beside it could not be read: "+problem.From(err).Detail)
	}
	return r, nil
}

// oldParts finds the database in a data directory, or in what was put aside,
// and the journal beside it; empty: there is none.
func oldParts(dir string) (cluster, journalDir string, err error) {
	for _, cluster := range []string{filepath.Join(dir, "postgres"), dir} {
		if absent(filepath.Join(cluster, "data", "PG_VERSION")) {
			continue
		}
		if beside := filepath.Join(dir, "journal"); cluster != dir && !absent(beside) && !absent(filepath.Join(dir, "node.json")) {
			return cluster, beside, nil
		}
		return cluster, "", nil
	}
	return "", "", problem.New(problem.NotFound, "reconcile-empty", "There is no database in "+dir+".").WithField("dir").
		WithMend("Name the data directory of the old node, or the directory that `foundry database rejoin` put aside.")
}

// refuseRunning refuses a database whose server runs: what is copied meanwhile
// is no database.
func refuseRunning(data string) error {
	body, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unusable(data, err)
	}
	first, _, _ := strings.Cut(string(body), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return nil // torn by whatever killed it
	}
	if cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil && strings.Contains(string(cmdline), filepath.Dir(data)) {
		return problem.New(problem.Conflict, "reconcile-running", fmt.Sprintf("The server of this database runs, as process %d.", pid)).WithField("dir").WithMend("Stop the node that runs it.")
	}
	return nil
}

func epochIn(cluster string) int64 {
	var o office
	if body, err := os.ReadFile(filepath.Join(cluster, "office.json")); err == nil {
		_ = json.Unmarshal(body, &o) // what cannot be read is not known
	}
	return o.Epoch
}

// copyOld copies a data directory for the account of the database. It follows
// no link: a database of ours has none.
func copyOld(ctx context.Context, from, to, base string) error {
	account, err := db.FindAccount("")
	if err != nil {
		return err
	}
	uid, gid := account.IDs()
	var bytes int64
	if err := filepath.WalkDir(from, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, ierr := e.Info(); ierr == nil {
				bytes += info.Size()
			}
		}
		return err
	}); err != nil {
		return unusable(from, err)
	}
	if free, err := scratch.Free(base); err == nil && free < bytes+bytes/10 {
		return problem.New(problem.Unavailable, "reconcile-space", fmt.Sprintf("A copy of the database has %d MB, and %d MB are free in %s.", bytes>>20, free>>20, base)).
			WithField("scratch").WithMend("Free space there, or name a directory on a larger disk with --scratch.")
	}
	skip := []string{"postmaster.pid", "postmaster.opts"}
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir():
			if err := os.Mkdir(target, 0o700); err != nil {
				return err
			}
		case !e.Type().IsRegular() && filepath.Base(filepath.Dir(path)) == "pg_tblspc":
			return problem.New(problem.Unsupported, "reconcile-tablespace", "The database has tablespaces, which Foundry never makes.").WithField("dir").WithMend("Compare it by hand.")
		case !e.Type().IsRegular() || slices.Contains(skip, rel):
			return nil
		default:
			if err := copyFile(path, target); err != nil {
				return err
			}
		}
		if os.Geteuid() != 0 {
			return nil
		}
		return os.Lchown(target, uid, gid)
	})
	if err != nil {
		return unusable(from, err)
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// tail reads a copy of the old journal.
func (o reconciling) tail(ctx context.Context, r *api.Reconciliation, dir, from, to string) error {
	var n node
	body, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if err == nil {
		err = json.Unmarshal(body, &n)
	}
	if err != nil {
		return unusable(dir, err)
	}
	r.Node = n.Number
	if err := os.Mkdir(to, 0o700); err != nil {
		return unusable(to, err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return unusable(from, err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return unusable(to, err)
			}
		}
	}
	j, err := journal.Open(to, journal.Options{Node: n.Number, Boot: n.Boot + 1, Seal: o.seal, Open: o.open, ReadAround: true, SegmentBytes: 1 << 20, Log: o.log})
	if err != nil {
		return err
	}
	defer func() { _ = j.Close(context.WithoutCancel(ctx)) }() // a copy that is thrown away
	t, err := ledger.ReadTail(ctx, j, n.Number, o.db, r.Ledger.Events, longestReconciliation)
	if err != nil {
		return err
	}
	r.Journal = &t
	return nil
}
