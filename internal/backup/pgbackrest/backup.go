package pgbackrest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

func nativeEndian(b [8]byte) uint64 { return binary.NativeEndian.Uint64(b[:]) }

var (
	newLabel   = regexp.MustCompile(`new backup label = ([0-9]{8}-[0-9]{6}F(?:_[0-9]{8}-[0-9]{6}[DI])?)`)
	percent    = regexp.MustCompile(`(?:backup|restore) file .* \((?:bundle [^,]*, )?[^,()]*, ([0-9]+(?:\.[0-9]+)?)%\)`)
	annotation = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)
	totalFiles = regexp.MustCompile(`(?:backup|restore) size = .*file total = ([0-9]+)`)
)

// Backup makes a backup of the running cluster, after one to another target
// that is under way. One that was interrupted
// before is continued where its files are still right; pgBackRest decides that
// by checksum.
func (e *Engine) Backup(ctx context.Context, t target.Target, r engine.BackupRequest, p engine.Progress) (engine.Point, error) {
	if err := usable(t); err != nil {
		return engine.Point{}, err
	}
	s, err := e.server()
	if err != nil {
		return engine.Point{}, err
	}
	if _, err := e.configure(ctx, t); err != nil {
		return engine.Point{}, err
	}
	if err := present(t); err != nil {
		return engine.Point{}, err
	}
	if err := writable(t); err != nil {
		return engine.Point{}, err
	}
	release, err := e.holdSoon(ctx, t)
	if err != nil {
		return engine.Point{}, err
	}
	defer release()
	done, err := e.turn(ctx)
	if err != nil {
		return engine.Point{}, err
	}
	defer done()
	args := append(s.connection(), "--type="+option(r.Type), "--log-level-console=detail")
	for _, name := range slices.Sorted(keysOf(r.Tags)) {
		if !annotation.MatchString(name) || strings.ContainsAny(r.Tags[name], "\r\n\x00") {
			return engine.Point{}, problem.New(problem.Invalid, "engine-tag", "A tag of a backup is a word of small letters, and its value one line.")
		}
		args = append(args, "--annotation="+name+"="+r.Tags[name])
	}
	w := &watcher{progress: p, total: clusterBytes(s.Data), what: "database"}
	p.Tell(0, w.total, "database")
	if err := t.Admit(ctx); err != nil { // as late as can be: the turn may have been long
		return engine.Point{}, err
	}
	if err := e.begin(ctx, t, w, append(args, "backup")); err != nil {
		return engine.Point{}, e.blocked(ctx, t, err)
	}
	return e.made(ctx, t, w.label)
}

const (
	// admitting is how long a backup waits for a database that lets nobody in:
	// it starts, it is loaded, or other connections hold every place.
	admitting = time.Minute
	knock     = 2 * time.Second
)

// waitsForDatabase is what a backup says that it does meanwhile.
const waitsForDatabase = "waiting for the database to let the backup in"

// begin makes the backup. Where the database does not let it in nothing has
// begun, and it is tried again for a while.
func (e *Engine) begin(ctx context.Context, t target.Target, w *watcher, args []string) error {
	until := time.Now().Add(admitting)
	for {
		_, err := e.run(ctx, t, w.line, args...)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != "engine-refused" || w.last > 0 || !time.Now().Before(until) {
			return err
		}
		w.progress.Tell(0, w.total, waitsForDatabase)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(knock):
		}
	}
}

// made finds the backup that a run says it made: exit 0 alone is no backup.
func (e *Engine) made(ctx context.Context, t target.Target, label string) (engine.Point, error) {
	points, err := e.Points(ctx, t)
	if err != nil {
		return engine.Point{}, err
	}
	at := slices.IndexFunc(points, func(p engine.Point) bool { return p.Label == label })
	if label == "" || at < 0 {
		return engine.Point{}, problem.New(problem.Internal, "engine-nothing", "pgBackRest reports success, but the repository at "+t.Name+" has no new backup.").
			WithMend("Look at the repository with `foundry backup verify`, and at pgBackRest's version; make a full backup.")
	}
	return points[at], nil
}

// watcher reads what pgBackRest logs while it works.
type watcher struct {
	progress engine.Progress
	total    int64
	what     string
	last     int64
	label    string
	files    int64
}

func (w *watcher) line(text string) {
	if m := percent.FindStringSubmatch(text); m != nil {
		part, err := strconv.ParseFloat(m[1], 64)
		if done := int64(part / 100 * float64(w.total)); err == nil && done > w.last {
			w.last = done
			w.progress.Tell(done, w.total, w.what)
		}
		return
	}
	if m := newLabel.FindStringSubmatch(text); m != nil {
		w.label = m[1]
	}
	if m := totalFiles.FindStringSubmatch(text); m != nil {
		w.files, _ = strconv.ParseInt(m[1], 10, 64)
	}
}

// clusterBytes is about what a backup of a data directory has to read; 0 when unknown.
func clusterBytes(data string) (n int64) {
	_ = filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // files come and go below a running server
		}
		if d.IsDir() && (d.Name() == "pg_wal" || d.Name() == "pgsql_tmp") {
			return fs.SkipDir
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

func keysOf(m map[string]string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Check runs pgBackRest's own check of every file in the repository, and then
// looks for gaps in the archive, which pgBackRest does not. It exits 0 whatever
// it finds: only its report counts.
func (e *Engine) Check(ctx context.Context, t target.Target, p engine.Progress) error {
	if err := usable(t); err != nil {
		return err
	}
	p.Tell(0, 0, "repository")
	out, err := e.run(ctx, t, nil, "--output=text", "--verbose", "--log-level-console=off", "--log-level-stderr=warn", "verify")
	if err != nil {
		return err
	}
	if bad := verifyReport(string(out.Out)); bad != "" {
		if strings.Contains(bad, "No usable") {
			if _, err := e.info(ctx, t); err != nil { // says whether it is missing or has another key
				return err
			}
		}
		return problem.New(problem.Internal, "repository-damaged", fmt.Sprintf("The repository at %s is damaged: %s.", t.Name, bad)).
			WithMend("Restore from another point or target where you must, keep this repository as it is, and make a full backup at once.")
	}
	a, err := e.Archive(ctx, t)
	if err != nil {
		return err
	}
	if len(a.Gaps) > 0 {
		return problem.New(problem.Internal, "archive-gap", fmt.Sprintf("The archive at %s has a gap: %s.", t.Name, a.Gaps[0])).
			WithMend("Make a full backup at once: what was written after the gap can only be restored from a later one.")
	}
	p.Tell(1, 1, "repository")
	return nil
}

var (
	verifyCount  = regexp.MustCompile(`(missing|checksum invalid|size invalid|other): ([0-9]+)`)
	verifyBackup = regexp.MustCompile(`backup: (\S+), status: (\S[^,]*)`)
)

// verifyReport finds what is wrong in the report of verify; "" is nothing.
func verifyReport(text string) string {
	if !strings.Contains(text, "status: ") {
		return "pgBackRest said nothing about it"
	}
	about, wrong := "the archive", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := verifyBackup.FindStringSubmatch(line); m != nil {
			about = "backup " + m[1]
			if m[2] != "valid" && m[2] != "in-progress" && wrong == "" {
				wrong = about + " is " + m[2]
			}
		}
		for _, m := range verifyCount.FindAllStringSubmatch(line, -1) {
			if m[2] != "0" {
				return fmt.Sprintf("in %s, %s: %s", about, m[1], m[2])
			}
		}
		switch {
		case strings.HasPrefix(line, "No usable"):
			return line
		case wrong == "" && strings.HasPrefix(line, "status: error"):
			wrong = "error"
		}
	}
	return wrong
}
