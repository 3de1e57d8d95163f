package restic

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
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// Tags that the engine adds by itself.
const (
	tagBytes = "foundry-bytes" // size of the sources when they were looked at
	tagFiles = "foundry-files"
)

// Backup implements engine.Engine. What an interrupted run stored is found and
// used by the next. When files could not be read the point is returned with an
// error, marked as broken: it holds the others.
func (e *Engine) Backup(ctx context.Context, t target.Target, r engine.BackupRequest, p engine.Progress) (point engine.Point, err error) {
	if r.Type != "" && r.Type != engine.Snapshot {
		return point, problem.New(problem.Unsupported, "engine-type", "restic makes snapshots only.").WithField("type").WithMend("Leave the type out.")
	}
	size, err := survey(ctx, r.Sources)
	if err != nil {
		return point, err
	}
	tags, err := tagsOf(r.Tags, size)
	if err != nil {
		return point, err
	}
	err = e.exclusively(t, func() error {
		return e.with(ctx, t, func(s *session) error {
			if err := t.Admit(ctx); err != nil {
				return err
			}
			point, err = s.backup(ctx, r.Sources, tags, size, p)
			return err
		})
	})
	return point, err
}

// survey looks at the sources: restic skips one that is missing, and reports success.
func survey(ctx context.Context, sources []string) (size stats, err error) {
	if len(sources) == 0 {
		return size, problem.New(problem.Invalid, "engine-no-sources", "Nothing is named to be backed up.").WithField("sources")
	}
	for i, source := range sources {
		field := fmt.Sprintf("sources[%d]", i)
		if !filepath.IsAbs(source) || strings.ContainsAny(source, "\n\x00") {
			return size, problem.New(problem.Invalid, "engine-source", "The path "+strconv.Quote(source)+" is not absolute.").WithField(field).WithMend("Write it from the root, beginning with /.")
		}
		if _, err := os.Lstat(source); err != nil {
			return size, problem.New(problem.NotFound, "engine-source-missing", "What is to be backed up is not there: "+source+".").
				WithField(field).WithMend("Is its file system mounted? If it is gone for good, take it out of backup.files.").Wrap(err)
		}
		one, err := measure(ctx, source)
		if err != nil {
			return size, err
		}
		size.Bytes, size.Entries = size.Bytes+one.Bytes, size.Entries+one.Entries
	}
	return size, nil
}

// measure counts what is at a path and below: every entry but the path's own,
// and the bytes of files, each file once however many names it has.
func measure(ctx context.Context, root string) (size stats, err error) {
	seen := map[inode]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // gone meanwhile, or not for this user: restic says so for itself
			return nil
		}
		if path != root {
			size.Entries++
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if id, linked := inodeOf(info); linked {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		size.Bytes += info.Size()
		return nil
	})
	return size, err
}

// tagsOf turns tags into restic's, which are words without commas.
func tagsOf(tags map[string]string, size stats) ([]string, error) {
	var out []string
	for k, v := range tags {
		if k == "" || strings.ContainsAny(k, "=, \n") || strings.ContainsAny(v, ",\n") || strings.HasPrefix(k, "foundry-") {
			return nil, problem.New(problem.Invalid, "engine-tag", "The tag "+strconv.Quote(k)+" cannot be kept with a backup.").WithField("tags").WithMend("Leave out commas, spaces in names, and names that begin with foundry-.")
		}
		out = append(out, k+"="+v)
	}
	out = append(out, tagBytes+"="+strconv.FormatInt(size.Bytes, 10), tagFiles+"="+strconv.FormatInt(size.Entries, 10))
	slices.Sort(out)
	return out, nil
}

// collected is what restic said during a backup.
type collected struct {
	mu      sync.Mutex
	done    atomic.Int64
	summary message
	failed  []message
	missed  int64 // files that were gone when their turn came
}

func (c *collected) line(p engine.Progress, size stats) func(string) {
	return func(line string) {
		m, ok := parseMessage(line)
		if !ok {
			return
		}
		switch m.Type {
		case "status":
			c.done.Store(m.BytesDone)
			p.Tell(m.BytesDone, max(m.TotalBytes, size.Bytes), "backing up")
		case "summary":
			c.mu.Lock()
			c.summary = m
			c.mu.Unlock()
		case "error":
			c.mu.Lock()
			if m.vanished() {
				c.missed++
			} else if len(c.failed) < 20 {
				c.failed = append(c.failed, m)
			}
			c.mu.Unlock()
		}
	}
}

// moved reports progress since the last call.
func moved(counter func() int64) func() bool {
	last := int64(-1)
	return func() bool {
		now := counter()
		changed := now != last
		last = now
		return changed
	}
}

const incomplete = 3 // restic's exit code when a source could not be read

func (s *session) backup(ctx context.Context, sources, tags []string, size stats, p engine.Progress) (engine.Point, error) {
	finished, err := s.unfinished(ctx, p)
	if err != nil {
		return engine.Point{}, err
	}
	args := []string{"backup", "--json", "--host", s.e.o.Node}
	for _, t := range tags {
		args = append(args, "--tag", t)
	}
	args = append(append(args, "--"), sources...)
	var c collected
	out, err := s.run(ctx, command{
		op: opBackup, args: args, locks: true, quiet: true, codes: []int{incomplete},
		line: c.line(p, size), alive: moved(c.done.Load),
	})
	if err != nil {
		return engine.Point{}, err
	}
	if c.summary.Snapshot == "" {
		return engine.Point{}, problem.New(problem.Upstream, "engine-nothing", "restic ended without an error and without a snapshot.").
			WithMend("Nothing was backed up. Check which program is called restic on this machine.").Wrap(errors.New(tail(out.Text(), 600)))
	}
	finished()
	point, err := s.find(ctx, c.summary.Snapshot)
	if err != nil {
		return engine.Point{}, err
	}
	point.Stored, point.Stopped = c.summary.Added, s.e.o.Now()
	if c.missed > 0 {
		s.e.o.Log.Info("files were gone before they could be backed up", "target", s.t.Name, "files", c.missed)
	}
	if err := doubt(&c, size, out.Exit); err != nil {
		marked := s.markIncomplete(ctx, point)
		marked.Broken = err.Detail
		return marked, err
	}
	p.Tell(point.Bytes, point.Bytes, "backed up")
	return point, nil
}

// unfinished notes that a backup began. If the one before never ended, what it
// stored is in no index yet, and would be stored again: the index is made anew
// from what is there.
func (s *session) unfinished(ctx context.Context, p engine.Progress) (finished func(), err error) {
	mark := strings.TrimSuffix(s.e.notesOf(s.t), ".pid") + ".unfinished"
	if _, err := os.Lstat(mark); err == nil {
		p.Tell(0, 0, "taking up what the last run stored")
		if _, err := s.run(ctx, command{op: opExpire, args: []string{"rebuild-index"}, locks: true}); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		s.e.o.Log.Warn("the beginning of a backup could not be noted", "target", s.t.Name, "cause", err)
	}
	return func() { _ = os.Remove(mark) }, nil
}

// tagIncomplete marks a snapshot that is not whole: the list of snapshots does
// not tell it from others, and the last good one must not be expired for it.
const tagIncomplete = "foundry-incomplete"

// markIncomplete marks a snapshot in the repository, where every later run and
// a bare machine see it. restic stores a copy with the mark and removes the
// other, which a target that only takes may refuse: points marks both.
func (s *session) markIncomplete(ctx context.Context, p engine.Point) engine.Point {
	_, err := s.run(ctx, command{op: opExpire, args: []string{"tag", "--add", tagIncomplete, p.Label}, locks: true})
	if err != nil && !unwritable(err) {
		s.e.o.Log.Error("a backup that is not whole could not be marked: until it expires it looks whole", "target", s.t.Name, "label", p.Label, "cause", err)
		return p
	}
	points, err := s.points(ctx)
	if err != nil {
		return p
	}
	for _, other := range points {
		if other.Started.Equal(p.Started) && other.Broken != "" {
			other.Stored, other.Stopped = p.Stored, p.Stopped
			return other
		}
	}
	return p
}

// doubt finds what an exit code does not say.
func doubt(c *collected, size stats, exit int) *problem.Error {
	switch {
	case len(c.failed) > 0:
		f := c.failed[0]
		return problem.New(problem.Upstream, "engine-incomplete", fmt.Sprintf("%d or more files could not be read, the first is %s. The others are backed up.", len(c.failed), f.Item)).
			WithMend("Let the user that runs foundry read them, or take them out of backup.files; an input or output error means a failing disk.")
	case exit == incomplete && c.missed == 0:
		return problem.New(problem.Upstream, "engine-incomplete", "Some files could not be read, and restic does not say which. The others are backed up.").
			WithMend("Check the permissions of what is backed up.")
	case size.Bytes > 0 && c.summary.Bytes == 0:
		return problem.New(problem.Upstream, "engine-nothing", "restic made a snapshot that is empty, of files that are not.").
			WithMend("Check which program is called restic on this machine.")
	}
	return nil
}

// Points implements engine.Engine. It takes no lock: nothing that another run
// does changes what a snapshot is.
func (e *Engine) Points(ctx context.Context, t target.Target) (points []engine.Point, err error) {
	err = e.with(ctx, t, func(s *session) error {
		points, err = s.points(ctx)
		return err
	})
	return points, err
}

func (s *session) points(ctx context.Context) ([]engine.Point, error) {
	out, err := s.run(ctx, command{op: opRead, args: []string{"snapshots", "--json", "--no-lock"}})
	if err != nil {
		return nil, err
	}
	all, err := parseSnapshots(out.Out)
	if err != nil {
		return nil, problem.New(problem.Upstream, "engine-answer", "What restic lists cannot be read.").WithMend("Is it a newer version? Foundry is tested with 0.14.").Wrap(err)
	}
	marked := map[string]bool{}
	for _, one := range all {
		if slices.Contains(one.Tags, tagIncomplete) {
			marked[one.ID], marked[one.Original] = true, true
		}
	}
	points := make([]engine.Point, 0, len(all))
	for _, one := range all {
		p := s.point(one)
		if marked[one.ID] {
			p.Broken = "Some files could not be read when it was made; the others are in it."
		}
		points = append(points, p)
	}
	return points, nil
}

// labelLength of an id is unique among more snapshots than there will ever be,
// and short enough to be read out.
const labelLength = 16

func (s *session) point(one snapshot) engine.Point {
	bytes, _ := strconv.ParseInt(one.tag(tagBytes), 10, 64)
	return engine.Point{
		Engine: Name, Target: s.t.Name, Label: one.ID[:labelLength], Type: engine.Snapshot, Started: one.Time.UTC(), Stopped: one.Time.UTC(),
		Bytes: max(bytes, 0), Paths: one.Paths,
	}
}

// find returns one snapshot, by the beginning of its id.
func (s *session) find(ctx context.Context, label string) (engine.Point, error) {
	points, err := s.points(ctx)
	if err != nil {
		return engine.Point{}, err
	}
	short := label[:min(len(label), labelLength)]
	i := slices.IndexFunc(points, func(p engine.Point) bool { return len(short) >= 8 && strings.HasPrefix(p.Label, short) })
	if i < 0 {
		return engine.Point{}, s.noPoint()
	}
	return points[i], nil
}

func (s *session) noPoint() error {
	return problem.New(problem.NotFound, "point-missing", "There is no such backup at the target "+s.t.Name+".").
		WithMend("`foundry backup list` names those that there are.")
}

// newest returns the newest snapshot that is not younger than a time: a whole
// one, where there is one.
func (s *session) newest(ctx context.Context, at time.Time) (engine.Point, error) {
	points, err := s.points(ctx)
	if err != nil {
		return engine.Point{}, err
	}
	for _, broken := range []bool{false, true} {
		for _, p := range slices.Backward(points) {
			if (p.Broken == "" || broken) && (at.IsZero() || !p.Started.After(at)) {
				return p, nil
			}
		}
	}
	if len(points) > 0 {
		return engine.Point{}, problem.New(problem.NotFound, "point-too-early", "The target "+s.t.Name+" holds nothing as old as "+at.UTC().Format(time.RFC3339)+".").
			WithMend("The oldest is of " + points[0].Started.Format(time.RFC3339) + ": ask for that time or a later one.")
	}
	return engine.Point{}, s.noPoint()
}
