package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// Restore writes a backup into an empty or absent directory, for
// db.StartRestored to replay up to r.Time: what is needed for that stands in
// the directory's postgresql.auto.conf, and works for as long as this engine's
// Runtime is there. Beside the directory stands another, <To>-pgbackrest, for
// the spool and the locks of the replay, which must not be those of the live
// cluster.
//
// A restore that was killed leaves a directory that this method, for the same
// backup, continues.
func (e *Engine) Restore(ctx context.Context, t target.Target, r engine.RestoreRequest, p engine.Progress) (engine.Restored, error) {
	began := e.o.Clock()
	if len(r.Only) > 0 {
		return engine.Restored{}, problem.New(problem.Unsupported, "restore-only", "A database is restored whole.").WithMend("Leave out which parts to restore.")
	}
	to, err := filepath.Abs(r.To)
	if err != nil {
		return engine.Restored{}, err
	}
	c, err := e.configure(ctx, t)
	if err != nil {
		return engine.Restored{}, err
	}
	points, err := e.Points(ctx, t)
	if err != nil {
		return engine.Restored{}, err
	}
	h, err := e.lineage(ctx, t)
	if err != nil {
		return engine.Restored{}, err
	}
	point, err := choose(t, points, h, r)
	if err != nil {
		return engine.Restored{}, err
	}
	side := to + "-pgbackrest"
	args, err := e.restoreInto(to, side, point)
	if err != nil {
		return engine.Restored{}, err
	}
	args = append(args, "--pg1-path="+to, "--lock-path="+filepath.Join(side, "lock"), "--log-path="+filepath.Join(side, "log"), "--spool-path="+filepath.Join(side, "spool"),
		"--set="+point.Label, "--target-timeline="+h.target(point), "--archive-mode=off", "--log-level-console=detail",
		"--recovery-option=restore_command="+settingQuote(e.restoreCommand(c, to, side)), "--recovery-option=recovery_target_action=promote")
	if r.Time.IsZero() {
		args = append(args, "--type=default")
	} else {
		args = append(args, "--type=time", "--target="+r.Time.UTC().Format("2006-01-02 15:04:05.999999")+"+00")
	}
	w := &watcher{progress: p, total: point.Bytes, what: "database"}
	p.Tell(0, w.total, "database")
	out, err := e.run(ctx, t, w.line, append(args, "restore")...)
	if err != nil {
		if ctx.Err() == nil && diskFull(out) {
			err = problem.New(problem.Exhausted, "restore-full", "There is no space left in "+filepath.Dir(to)+" to restore into.").
				WithMend(fmt.Sprintf("Free %d MB there, or restore to another place.", point.Bytes>>20)).Wrap(err)
		}
		return engine.Restored{}, err
	}
	if err := os.Remove(filepath.Join(side, begunName)); err != nil {
		return engine.Restored{}, err
	}
	return engine.Restored{Point: point, Bytes: point.Bytes, Files: w.files, Took: e.o.Clock().Sub(began), Said: out.Last}, complete(to)
}

// begunName is a file that says which backup is being restored beside it.
const begunName = "begun"

// restoreInto makes the directories, and refuses what is not empty and was not
// begun for the same backup.
func (e *Engine) restoreInto(to, side string, point engine.Point) (args []string, err error) {
	entries, err := os.ReadDir(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New(problem.Conflict, "restore-target", "The place to restore to is not a directory that can be read: "+to+".").WithMend("Name an empty or absent directory.").Wrap(err)
	}
	begun, err := os.ReadFile(filepath.Join(side, begunName))
	again := err == nil && strings.TrimSpace(string(begun)) == point.Label
	if len(entries) > 0 && !again {
		return nil, problem.New(problem.Conflict, "restore-not-empty", "The directory to restore to is not empty: "+to+".").
			WithMend("Name an empty or absent one. Nothing was touched.")
	}
	if err := e.o.Account.Mkdir(to); err != nil {
		return nil, err
	}
	if err := e.o.Account.Reaches(to); err != nil {
		return nil, err
	}
	// The segment that a replay before this restore had last may be a file that
	// its server has written to since, for its own log.
	if err := os.RemoveAll(filepath.Join(side, lastName)); err != nil {
		return nil, err
	}
	for _, dir := range []string{side, filepath.Join(side, "lock"), filepath.Join(side, "log"), filepath.Join(side, "spool"), filepath.Join(side, lastName)} {
		if err := e.o.Account.Mkdir(dir); err != nil {
			return nil, err
		}
	}
	// Root writes into a directory of the server's account: never through a link.
	mark := filepath.Join(side, begunName)
	if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(point.Label + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		args = append(args, "--delta")
	}
	return args, nil
}

func diskFull(out engine.Output) bool {
	return strings.Contains(out.Text(), "No space left on device")
}

// complete checks what no exit code says: that something was restored.
func complete(to string) error {
	for _, name := range []string{"PG_VERSION", "global/pg_control", "backup_label", "recovery.signal"} {
		if _, err := os.Lstat(filepath.Join(to, name)); err != nil {
			return problem.New(problem.Internal, "engine-nothing", "pgBackRest reports success, but "+filepath.Join(to, name)+" is missing: this is no whole database.").
				WithMend("Restore another point, or from another target, and check the repository with `foundry backup verify`.").Wrap(err)
		}
	}
	return nil
}

// lastName is a directory for the segment that was fetched last.
const lastName = "last"

// restoreCommand fetches a segment for a replay. Asynchronous, so that the
// replay does not wait for each.
//
// At the end of the log PostgreSQL asks twice more for the segment that it was
// given last (access/transam/xlogrecovery.c, FinishWalRecovery), and pgBackRest
// has thrown it out of its spool by then: each time costs as much as many
// segments. It is kept as a link, which costs nothing for the others, and given
// as a copy.
func (e *Engine) restoreCommand(c conf, to, side string) string {
	var b strings.Builder
	name, body := shellQuote(filepath.Join(side, lastName, "name")), shellQuote(filepath.Join(side, lastName, "segment"))
	b.WriteString("n=; [ -f " + name + " ] && read -r n < " + name + "; if [ \"$n\" = %f ] && cp " + body + ` "%p"; then exit 0; fi; `)
	for _, a := range []string{e.o.Program, "--config=" + c.path, "--stanza=" + stanza, "--pg1-path=" + to, "--archive-async", "--lock-path=" + filepath.Join(side, "lock"),
		"--log-path=" + filepath.Join(side, "log"), "--spool-path=" + filepath.Join(side, "spool"), "--log-level-console=off", "--log-level-stderr=error", "archive-get"} {
		b.WriteString(shellQuote(a) + " ")
	}
	// Without a name there is none: no moment has the name of another's segment.
	return b.String() + `%f "%p" && { : > ` + name + `; ln -f "%p" ` + body + " && echo %f > " + name + "; true; }"
}

// settingQuote is what stands between the quotes of a PostgreSQL setting;
// pgBackRest adds these and escapes nothing.
func settingQuote(v string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(v)
}

// choose picks the backup to restore: the one named, or the newest that was
// complete at the wanted time and lies on the history to be followed.
func choose(t target.Target, points []engine.Point, h lineage, r engine.RestoreRequest) (engine.Point, error) {
	if r.Label != "" {
		at := slices.IndexFunc(points, func(p engine.Point) bool { return p.Label == r.Label })
		if at < 0 {
			return engine.Point{}, problem.New(problem.NotFound, "point-missing", fmt.Sprintf("The target %s has no backup %s.", t.Name, r.Label)).
				WithMend("See what there is with `foundry backup list`.")
		}
		if p := points[at]; !r.Time.IsZero() && r.Time.Before(p.Stopped) {
			return p, problem.New(problem.Invalid, "point-younger", fmt.Sprintf("The backup %s was complete at %s, after the wanted time.", p.Label, p.Stopped.Format(time.RFC3339))).
				WithMend("Name an older backup, or none, for the right one to be found.")
		}
		return points[at], nil
	}
	for _, p := range slices.Backward(points) {
		if h.has(p) && (r.Time.IsZero() || !r.Time.Before(p.Stopped)) {
			return p, nil
		}
	}
	if r.Time.IsZero() || len(points) == 0 {
		return engine.Point{}, problem.New(problem.NotFound, "point-missing", fmt.Sprintf("The target %s has no backup of the database yet.", t.Name)).WithMend("Make one with `foundry backup run`.")
	}
	return engine.Point{}, problem.New(problem.NotFound, "point-too-early", fmt.Sprintf("The oldest backup at %s was complete at %s, after the wanted time.", t.Name, points[0].Stopped.Format(time.RFC3339))).
		WithMend("Ask for a later time, or another target.")
}

// lineage is the history of the newest timeline: after a recovery to an earlier
// time, backups and WAL from after that time belong to a branch that was given up.
type lineage struct {
	newest  uint32
	parents map[uint32]uint64 // each ancestor, and the position at which it was left
}

// has reports whether a backup is part of the newest timeline's history.
func (h lineage) has(p engine.Point) bool {
	if p.Timeline == h.newest || h.newest == 0 {
		return true
	}
	left, ok := h.parents[p.Timeline]
	stop, err := parseLSN(p.StopLSN)
	return ok && err == nil && stop <= left
}

// target is the timeline to follow from a backup: the newest, or the backup's
// own where it lies on a branch that was given up.
func (h lineage) target(p engine.Point) string {
	if h.has(p) {
		return "latest"
	}
	return strconv.FormatUint(uint64(p.Timeline), 10)
}

// lineage reads the history of the newest timeline in the archive.
func (e *Engine) lineage(ctx context.Context, t target.Target) (lineage, error) {
	a, err := e.Archive(ctx, t)
	if err != nil {
		return lineage{}, err
	}
	if len(a.Histories) == 0 {
		return lineage{}, nil
	}
	h := lineage{newest: a.Histories[len(a.Histories)-1]}
	h.parents, err = e.history(ctx, t, a.id, h.newest)
	return h, err
}

// parseHistory reads a timeline's history: parent, position where it was left,
// reason, by lines (access/transam/timeline.c).
func parseHistory(text string) (map[uint32]uint64, error) {
	parents := map[uint32]uint64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("the history of a timeline has the line %q", line)
		}
		n, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the history of a timeline has the line %q: %w", line, err)
		}
		left, err := parseLSN(fields[1])
		if err != nil {
			return nil, err
		}
		parents[uint32(n)] = left
	}
	return parents, nil
}

func parseLSN(text string) (uint64, error) {
	high, low, ok := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	l, lerr := strconv.ParseUint(low, 16, 32)
	if !ok || err != nil || lerr != nil {
		return 0, fmt.Errorf("%q is no position in the WAL", text)
	}
	return h<<32 | l, nil
}
