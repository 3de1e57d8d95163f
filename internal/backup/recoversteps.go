package backup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// Noted is what a kit carries about the database, so that what is recovered can
// be compared with something from outside of it.
type Noted struct {
	At        time.Time          `json:"at"`
	Archived  string             `json:"archived,omitempty"` // position up to which the archive had the log
	Sentinels []scratch.Sentinel `json:"sentinels"`
	Notes     []scratch.Note     `json:"notes"`
}

// stepKit says what is in the kit and what this machine lacks.
func (x *recovering) stepKit(_ context.Context, s *RecoveryStep) error {
	if missing := lacking(x.content.PostgreSQL, x.o.BinDir); len(missing) > 0 {
		return problem.New(problem.Unavailable, "recovery-programs", "This machine lacks "+strings.Join(missing, " and ")+".").
			WithMend("Install what the kit names, on Debian or Ubuntu: apt-get install " + strings.Join(x.content.Packages, " "))
	}
	what := "set " + x.content.Header.Set.String() + ", made " + stamp(x.content.Header.Created)
	if t := x.r.Taken; t != nil {
		what = "what " + t.From + " left for " + t.To + " on " + stamp(t.Made)
	}
	s.Said = what + ": " + strings.Join(x.content.Inventory(), "; ")
	return nil
}

// lacking lists the programs that a recovery needs and that are not here.
func lacking(major int, binDir string) (missing []string) {
	found := binDir != ""
	for _, pattern := range []string{"/usr/lib/postgresql/%d/bin/postgres", "/usr/pgsql-%d/bin/postgres", "/opt/homebrew/opt/postgresql@%d/bin/postgres"} {
		_, err := os.Stat(fmt.Sprintf(pattern, major))
		found = found || err == nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		out, _ := exec.Command(path, "--version").Output()
		found = found || bytes.Contains(out, fmt.Appendf(nil, "(PostgreSQL) %d", major))
	}
	if !found {
		missing = append(missing, fmt.Sprintf("the server of PostgreSQL %d", major))
	}
	return missing
}

// stepTargets finds the point to recover, and says what will be lost.
func (x *recovering) stepTargets(ctx context.Context, s *RecoveryStep) error {
	var failed []error
	var best *candidate
	for _, t := range x.targets {
		if !t.Serves(x.engines.Database.Name()) {
			continue
		}
		x.o.Progress(StepTargets, 0, 0, t.Name)
		c, err := x.look(ctx, t)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
			x.r.note("The target %s was not used: %s", t.Name, detail(err))
			continue
		}
		if best == nil || c.reaches.After(best.reaches) {
			best = &c
		}
	}
	if best == nil {
		e := problem.New(problem.NotFound, "recovery-no-point", "No target has a backup that serves.").
			WithMend("Try another --target or --at; `foundry recover --dry-run` shows what each target says.").Wrap(errors.Join(failed...))
		if len(failed) > 0 {
			e.Detail += " " + detail(failed[0])
		}
		return e
	}
	x.r.Target, x.r.Point, x.r.Reaches = best.target.Name, best.point, best.reaches
	x.r.Lost = x.lossFrom(best.reaches)
	s.Said = fmt.Sprintf("target %s, %s backup %s of %s, log until about %s", best.target.Name, best.point.Type, best.point.Label, stamp(best.point.Stopped), stamp(best.reaches))
	return nil
}

// lossFrom is how much is lost when everything up to a moment is there.
func (x *recovering) lossFrom(reached time.Time) float64 {
	until := x.r.Started
	if !x.r.Wanted.IsZero() {
		until = x.r.Wanted
	}
	return max(0, until.Sub(reached).Seconds())
}

// candidate is what one target could give.
type candidate struct {
	target  target.Target
	point   engine.Point
	reaches time.Time
}

// connects finds out within seconds that nothing answers at a server: an engine
// tries again for minutes, which neither the other targets nor whoever recovers have.
func connects(ctx context.Context, t target.Target) error {
	if t.Kind == target.Directory {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := t.Store(asking)
	if err == nil {
		_, err = s.List(asking, "foundry-kit-")
		_ = s.Close()
	}
	if err != nil && problem.From(err).Code == "target-gone" {
		return err
	}
	return nil // whatever else is wrong, the engine says better
}

func (x *recovering) look(ctx context.Context, t target.Target) (candidate, error) {
	if err := connects(ctx, t); err != nil {
		return candidate{}, err
	}
	points, err := x.engines.Database.Points(ctx, t)
	if err != nil {
		return candidate{}, fmt.Errorf("reading the points at %s: %w", t.Name, err)
	}
	c := candidate{target: t}
	for _, p := range points { // oldest first
		if p.Broken == "" && (x.r.Wanted.IsZero() || !p.Stopped.After(x.r.Wanted)) {
			c.point = p
		}
	}
	if c.point.Label == "" {
		oldest := "it has none at all"
		if len(points) > 0 {
			oldest = "its oldest is of " + stamp(points[0].Stopped)
		}
		return c, problem.New(problem.NotFound, "recovery-no-point", fmt.Sprintf("The target %s has no whole backup from before the moment asked for: %s.", t.Name, oldest)).
			WithMend("Ask for a later --at.").Wrap(errNoPoint)
	}
	c.reaches = c.point.Stopped
	if x.engines.Archive != nil {
		_, newest, err := x.engines.Archive(ctx, t)
		if err != nil {
			x.o.Log.Warn("the archive of the write-ahead log was not listed", "target", t.Name, "error", err)
		} else if newest.After(c.reaches) {
			c.reaches = newest
		}
	}
	if !x.r.Wanted.IsZero() && c.reaches.After(x.r.Wanted) {
		c.reaches = x.r.Wanted
	}
	return c, nil
}

// chosen is the target that was decided on.
func (x *recovering) chosen() (target.Target, error) {
	for _, t := range x.targets {
		if t.Name == x.r.Target {
			return t, nil
		}
	}
	return target.Target{}, problem.New(problem.NotFound, "target-unknown", fmt.Sprintf("The kit knows no target named %q.", x.r.Target)).WithMend("Recover with the kit that the recovery was begun with.")
}

// nodeFile counts the starts of a node.
const nodeFile = "node.json"

// bootsAhead is added to the number of starts that the kit knows. A number that
// was used before would give two requests one id; a kit is never so old.
const bootsAhead = 1000

// stepKeys writes keys, authority and identity, and tries that they open.
func (x *recovering) stepKeys(_ context.Context, s *RecoveryStep) error {
	for _, f := range x.content.Files {
		body := f.Body
		if f.Path == nodeFile {
			var err error
			if body, err = ahead(body); err != nil {
				return err
			}
		}
		if err := writeFile(filepath.Join(x.o.DataDir, f.Path), body, f.Mode&0o777); err != nil {
			return err
		}
	}
	if err := x.writeKEKs(); err != nil {
		return err
	}
	if err := x.openRing(); err != nil {
		return err
	}
	s.Said = fmt.Sprintf("%d files; the keyring opens with the key-encryption key %s, in %s", len(x.content.Files), x.ring.KEKs().Current().Fingerprint(), x.kekFile())
	return nil
}

// ahead moves the count of starts past every number that may have been used.
func ahead(body []byte) ([]byte, error) {
	var n struct {
		Number uint32 `json:"number"`
		Boot   uint32 `json:"boot"`
	}
	if err := json.Unmarshal(body, &n); err != nil || n.Number == 0 {
		return nil, problem.New(problem.Invalid, "kit-node", "The kit's record of the node is damaged.").WithMend("Use another copy of the kit.").Wrap(err)
	}
	n.Boot += bootsAhead
	out, err := json.Marshal(n)
	return append(out, '\n'), err
}

func (x *recovering) kekFile() string {
	return cmp.Or(x.r.KEK, filepath.Join(x.o.DataDir, "keys", "kek"))
}

// writeKEKs puts the key in force where the operator says, and former ones
// beside it. A file with another key is never written over.
func (x *recovering) writeKEKs() error {
	for i, k := range x.content.KEKs {
		path := x.kekFile()
		if i > 0 {
			path += ".previous-" + k.Fingerprint
		}
		text := base64.StdEncoding.EncodeToString(k.Key) + "\n"
		old, err := os.ReadFile(path)
		switch {
		case err == nil && string(old) == text:
			continue
		case err == nil:
			return problem.New(problem.Conflict, "recovery-kek-taken", path+" holds another key already.").WithField("kek").WithMend("Name another file with --kek.")
		case !errors.Is(err, fs.ErrNotExist):
			return pathProblem(path, err)
		}
		if err := writeFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if x.content.Node.Mode == "production" {
		return keys.File(x.kekFile()).Check(x.o.DataDir)
	}
	return nil
}

func (x *recovering) openRing() (err error) {
	if x.ring != nil {
		return nil
	}
	o := keys.Options{Dir: filepath.Join(x.o.DataDir, "keys"), Provider: keys.File(x.kekFile())}
	for _, k := range x.content.KEKs[1:] {
		o.Previous = append(o.Previous, keys.File(x.kekFile()+".previous-"+k.Fingerprint))
	}
	x.ring, err = keys.Open(o)
	return err
}

func (x *recovering) clusterDir() string { return filepath.Join(x.o.DataDir, "postgres") }

// stepDatabase restores the database's files. What an interrupted try left the
// engine continues, if it can; otherwise it is removed: nobody has used it.
func (x *recovering) stepDatabase(ctx context.Context, s *RecoveryStep) error {
	dir := x.clusterDir()
	if free, err := scratch.Free(x.o.DataDir); err == nil && free < x.r.Point.Bytes {
		return problem.New(problem.Unavailable, "recovery-space", fmt.Sprintf("The database has %d MB, and only %d MB are free where %s is.", x.r.Point.Bytes>>20, free>>20, x.o.DataDir)).
			WithField("data-dir").WithMend("Free space there, or choose a --data-dir on a larger disk.")
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	t, err := x.chosen()
	if err != nil {
		return err
	}
	restore := func() (engine.Restored, error) {
		if err := os.MkdirAll(dir, mode); err != nil {
			return engine.Restored{}, pathProblem(dir, err)
		}
		// Of the point that was shown to people, not of one that was made since.
		return x.engines.Database.Restore(ctx, t, engine.RestoreRequest{Label: x.r.Point.Label, Time: x.r.Wanted, To: filepath.Join(dir, "data")},
			func(done, total int64, what string) { x.o.Progress(StepDatabase, done, total, what) })
	}
	// A file's pages are read as soon as it is restored, while it is in memory.
	x.pages.Close()
	x.pages = scratch.ReadPages(filepath.Join(dir, "data"))
	done, err := restore()
	if err != nil && s.Tries > 1 && problem.From(err).Code == "restore-not-empty" {
		if err := db.RemoveRestored(ctx, dir); err != nil {
			return err
		}
		done, err = restore()
	}
	if err != nil {
		return err
	}
	if done.Point.Label != "" {
		x.r.Point = done.Point
	}
	s.Said = fmt.Sprintf("%d MB in %s from %s", done.Bytes>>20, done.Took.Round(time.Second), x.r.Point.Label)
	return nil
}

// stepReplay lets the database repeat its log, and looks at what came of it. A
// copy that was opened before, and not proven, is restored again: what was
// replayed is known only once.
func (x *recovering) stepReplay(ctx context.Context, s *RecoveryStep) error {
	signal := filepath.Join(x.clusterDir(), "data", "recovery.signal")
	if _, err := os.Lstat(signal); errors.Is(err, fs.ErrNotExist) && s.Tries > 1 {
		x.r.step(StepDatabase).Ended = time.Time{}
		if err := x.step(ctx, StepDatabase, x.stepDatabase); err != nil {
			return err
		}
		s = x.r.step(StepReplay)
	}
	if err := x.openRing(); err != nil {
		return err
	}
	t, err := x.chosen()
	if err != nil {
		return err
	}
	// The engine's settings, which its restore command reads, are this process's
	// where it restored, or are to be made again.
	if x.pages == nil {
		if _, err := x.engines.Database.Points(ctx, t); err != nil {
			return err
		}
		x.pages = scratch.ReadPages(filepath.Join(x.clusterDir(), "data"))
	}
	// What it is compared with is listed while the log is replayed.
	var beside sync.WaitGroup
	var expected scratch.Expected
	var listing error
	beside.Go(func() { expected, listing = x.expected(ctx, t) })
	copy, err := scratch.Start(ctx, scratch.Options{Dir: x.clusterDir(), BinDir: x.o.BinDir, Log: x.o.Log, Durable: true, Pages: x.pages})
	beside.Wait()
	if err != nil {
		return err
	}
	defer func() { _ = copy.Stop(ctx) }()
	if listing != nil {
		return listing
	}
	proof, err := copy.Prove(ctx, expected, func(what string) { x.o.Progress(StepReplay, 0, 0, what) })
	if err != nil {
		return err
	}
	// Only the replay needed what the engine keeps beside the data.
	if err := os.RemoveAll(filepath.Join(x.clusterDir(), "data-"+x.engines.Database.Name())); err != nil {
		x.o.Log.Warn("the engine's spool was left", "error", err)
	}
	x.r.Proof = &proof
	if proof.Recovered.After(x.r.Recovered) {
		x.r.Recovered = proof.Recovered
	}
	if !x.r.Recovered.IsZero() {
		x.r.Lost = x.lossFrom(x.r.Recovered)
	}
	s.Said = fmt.Sprintf("%s: %s", proof.Outcome, proof.Reason)
	return nil
}

// expected is what the recovered database is compared with.
func (x *recovering) expected(ctx context.Context, t target.Target) (scratch.Expected, error) {
	var n Noted
	if len(x.content.Expected) > 0 {
		if err := json.Unmarshal(x.content.Expected, &n); err != nil {
			x.r.note("The kit's notes about the database cannot be read, so that less could be proven.")
		}
	}
	e := scratch.Expected{At: x.r.Wanted, Sentinels: n.Sentinels, Notes: n.Notes, StartWAL: x.r.Point.StartWAL, ReachLSN: n.Archived}
	if !x.r.Wanted.IsZero() {
		e.ReachLSN = x.r.Point.StopLSN
	}
	if x.engines.Archive != nil {
		archive, _, err := x.engines.Archive(ctx, t)
		if err != nil {
			x.o.Log.Warn("the archive of the write-ahead log was not listed", "target", t.Name, "error", err)
		}
		e.Archive = archive
	}
	if e.ReachLSN == "" {
		e.ReachLSN = x.r.Point.StopLSN
	}
	if e.At.IsZero() {
		e.Reach = reachOf(n.Sentinels, e.Archive.Newest(e.StartWAL))
	}
	e.Checks = append(e.Checks, scratch.Hook{Name: "newest row", Look: x.newestRow})
	e.Checks = append(e.Checks, x.hooks()...)
	return e, nil
}

// reachOf is when the last sentinel that the archive holds was written: until
// then everything has to be there.
func reachOf(sentinels []scratch.Sentinel, end uint64) (at time.Time) {
	for _, s := range sentinels {
		if lsn, err := scratch.ParseLSN(s.LSN); err == nil && lsn < end {
			at = s.At
		}
	}
	return at
}

// newestRow finds out how far the copy itself says it came: beyond what the kit
// knows of, nothing else tells.
func (x *recovering) newestRow(ctx context.Context, copy *db.DB, _ time.Time) (scratch.Outcome, string, error) {
	var at *time.Time
	err := copy.Read(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, `SELECT max(at) FROM backup_sentinels`).Scan(&at) })
	switch {
	case err != nil:
		return scratch.Inconclusive, "", err
	case at == nil:
		return scratch.Inconclusive, "The copy holds no sentinel that would say how far it came.", nil
	case at.After(x.o.Clock()):
		return scratch.Fail, "The newest sentinel is of " + stamp(*at) + ", which has not come yet.", nil
	case at.After(x.r.Started):
		return scratch.Fail, "The newest sentinel is of " + stamp(*at) + ", later than this recovery began: the node that is recovered still runs, and what it writes from now on is lost. Stop it, and recover again into another directory.", nil
	}
	x.r.Recovered = *at
	return scratch.Pass, "The newest sentinel in the copy is of " + stamp(*at) + ".", nil
}

func detail(err error) string {
	var p *problem.Error
	if errors.As(err, &p) {
		return p.Detail
	}
	return strings.TrimSuffix(err.Error(), ".") + "."
}

// leftOut are files of a data directory that a recovery does not take from a
// backup: the database comes from its own, keys and identity from the kit.
var leftOut = []string{"postgres", "lock", "foundry.sock", "fenced", "recovery.json", "recovery", nodeFile, "handover.sealed", "snapshot.sealed"}

// stepFiles restores what was backed up as files, and puts what belongs to the
// data directory there. What the kit brought is newer, and stays.
func (x *recovering) stepFiles(ctx context.Context, s *RecoveryStep) error {
	if x.engines.Files == nil {
		s.Said = "there are no backups of files"
		return nil
	}
	x.beginFiles(ctx)
	point, done, err := x.files.wait(func(done, total int64, what string) { x.o.Progress(StepFiles, done, total, what) })
	for _, n := range x.files.notes {
		x.r.note("%s", n)
	}
	if err != nil {
		return err
	}
	if point.Label == "" {
		s.Said = "no target has a backup of files"
		x.r.note("No backup of files was found: what was not yet shipped from the journal, and files named under backup.files, are lost.")
		return nil
	}
	to := x.filesDir()
	taken, err := x.takeFiles(filepath.Join(to, x.content.Node.DataDir))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(to, x.content.Node.DataDir)); err == nil {
		if err := os.RemoveAll(filepath.Join(to, x.content.Node.DataDir)); err != nil {
			return pathProblem(to, err)
		}
	}
	if left := regularFiles(to); left > 0 {
		x.r.note("%d files of other places than the data directory were restored below %s: put back by hand what is needed.", left, to)
	}
	s.Said = fmt.Sprintf("%d files of %s from %s; %d taken into the data directory", done.Files, stamp(point.Stopped), point.Label, taken)
	return nil
}

func regularFiles(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return nil
	})
	return n
}

// takeFiles moves what is missing in the data directory from a restored one.
func (x *recovering) takeFiles(from string) (taken int, err error) {
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == from {
			return filepath.SkipAll
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		top, _, _ := strings.Cut(rel, string(filepath.Separator))
		if slices.Contains(leftOut, top) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		to := filepath.Join(x.o.DataDir, rel)
		if _, err := os.Lstat(to); err == nil || !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		taken++
		return moveFile(path, to, info.Mode().Perm())
	})
	if err != nil {
		return taken, pathProblem(from, err)
	}
	return taken, nil
}

// stepConfig writes the settings, adapted to this machine.
func (x *recovering) stepConfig(_ context.Context, s *RecoveryStep) (err error) {
	if x.o.Configure == nil {
		return nil
	}
	if x.r.Config, err = x.o.Configure(x.content, x.o.DataDir, x.kekFile()); err != nil {
		return err
	}
	s.Said = x.r.Config
	return nil
}
