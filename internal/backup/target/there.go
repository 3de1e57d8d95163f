package target

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// markName is the file by which a volume is recognised: written at the target
// when it is accepted for the first time, and compared with a note on this
// node. A mount that is away leaves an empty directory on the data's own disk,
// which nothing else tells from a new target.
const markName = "foundry-target.json"

// mark is what the file holds, at the target and on this node.
type mark struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Name    string `json:"name"` // of the target, when it was accepted
}

// keeper knows whether a target was accepted before.
type keeper struct {
	note       string // file on this node
	node       Place
	production bool

	mu      sync.Mutex
	looking *look // that has not come back yet
}

// look is a look at a directory, which whoever asks meanwhile waits for too.
type look struct {
	began time.Time
	done  chan struct{}
	err   error
}

// lookTimeout is how long a look at a directory may take: the file system of a
// server that is gone does not answer at all.
var lookTimeout = 10 * time.Second // shorter in a test

// Keep makes the target remember in dir, by its name, that it was accepted.
func (t Target) Keep(dir string, node Place, production bool) Target {
	t.keeper = &keeper{note: filepath.Join(dir, t.Name+".json"), node: node, production: production}
	return t
}

// Accepted reports whether the target was ever accepted by this node.
func (t Target) Accepted() bool {
	if t.keeper == nil {
		return false
	}
	_, err := os.Lstat(t.keeper.note)
	return err == nil
}

// There reports why a directory cannot be used: it is not there (code
// "target-gone"), or what is there is not what was accepted (code
// "target-away"), as when it is not mounted. Of servers it says nothing.
func (t Target) There() error {
	switch {
	case t.Kind != Directory:
		return nil
	case t.keeper == nil:
		return t.look()
	}
	k := t.keeper
	k.mu.Lock()
	l := k.looking
	if l == nil {
		l = &look{began: time.Now(), done: make(chan struct{})}
		k.looking = l
		go func() {
			l.err = t.look()
			k.mu.Lock()
			k.looking = nil
			k.mu.Unlock()
			close(l.done)
		}()
	}
	k.mu.Unlock()
	timer := time.NewTimer(lookTimeout - time.Since(l.began))
	defer timer.Stop()
	select {
	case <-l.done:
		return l.err
	case <-timer.C:
		return t.silent()
	}
}

// Admit is There for whoever is about to write: it also refuses, in
// production, what shares a fate with the data, and accepts what was never
// seen before, by leaving a mark there.
func (t Target) Admit(ctx context.Context) error {
	if err := t.There(); err != nil || t.keeper == nil {
		return err
	}
	if t.keeper.production {
		if err := t.Refused(t.keeper.node, "backup.targets"); err != nil {
			return err
		}
	}
	if t.Kind == S3Bucket || t.Kind == Directory && t.Accepted() {
		return nil
	}
	s, err := t.bare(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return t.accept(ctx, s)
}

// Refused is the first reason for which production refuses a target.
func (t Target) Refused(node Place, field string) error {
	for _, f := range t.Apart(node, true) {
		if f.Fatal {
			return problem.New(problem.Denied, "target-"+f.Rule, f.Detail).WithField(field + "." + f.Field).WithMend(f.Mend)
		}
	}
	return nil
}

// accept compares the mark, or leaves one where there is none and none was.
func (t Target) accept(ctx context.Context, s Store) error {
	known, seen, err := readMark(func() (io.ReadCloser, error) { return os.Open(t.keeper.note) })
	if err != nil {
		return err
	}
	there, marked, err := readMark(func() (io.ReadCloser, error) { return s.Open(ctx, markName) })
	switch {
	case err != nil:
		return err
	case seen:
		return t.same(known, there, marked)
	case !marked:
		there = mark{1, rand.Text(), t.Name}
		text, err := json.Marshal(there)
		if err != nil {
			return err
		}
		if err := s.Put(ctx, markName, append(text, '\n')); err != nil {
			return err
		}
	}
	return t.remember(there)
}

// remember keeps on this node what the target's mark says.
func (t Target) remember(m mark) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	dir := filepath.Dir(t.keeper.note)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("noting that the target %s was accepted: %w", t.Name, err)
	}
	if err := (directory{name: t.Name, path: dir}).Put(context.Background(), filepath.Base(t.keeper.note), append(text, '\n')); err != nil {
		return fmt.Errorf("noting that the target %s was accepted: %w", t.Name, err)
	}
	return nil
}

// look compares a directory with what was accepted.
func (t Target) look() error {
	if info, err := os.Stat(t.Path); err != nil || !info.IsDir() {
		return problem.New(problem.Unavailable, "target-gone", "The directory of the target "+t.Name+" is not there: "+t.Path+".").WithField("path").
			WithMend("Mount it, or correct the path. Until then WAL collects in the database's directory, and nothing of it is lost.").
			WithRetry(time.Minute).Wrap(errors.Join(err, fs.ErrNotExist))
	}
	if t.keeper == nil {
		return nil
	}
	known, seen, err := readMark(func() (io.ReadCloser, error) { return os.Open(t.keeper.note) })
	if err != nil || !seen {
		return err
	}
	there, marked, err := readMark(func() (io.ReadCloser, error) { return os.Open(filepath.Join(t.Path, markName)) })
	if err != nil {
		return directory{name: t.Name, path: t.Path}.explain(err)
	}
	return t.same(known, there, marked)
}

const mendAway = "Mount it: the node goes on there by itself, and WAL waits in the database's directory meanwhile. Foundry never begins a repository on the data's own disk. " +
	"If the target is lost for good, name another one, under a new name."

// same compares what was accepted with what is there.
func (t Target) same(known, there mark, marked bool) error {
	where := t.Path
	if t.Kind == SFTPHost {
		where += " at its server"
	}
	switch {
	case !marked:
		return problem.New(problem.Unavailable, "target-away", fmt.Sprintf("The target %s is away: %s is not the directory that was accepted. It is probably not mounted.", t.Name, where)).
			WithField("path").WithMend(mendAway).WithRetry(time.Minute)
	case known.ID != "" && known.ID != there.ID:
		return problem.New(problem.Unavailable, "target-away", fmt.Sprintf("The target %s is away: %s holds what belongs to another target.", t.Name, where)).
			WithField("path").WithMend(mendAway).WithRetry(time.Minute)
	}
	return nil
}

func (t Target) silent() error {
	return problem.New(problem.Unavailable, "target-gone", "The file system of the target "+t.Name+" does not answer: "+t.Path+".").WithField("path").
		WithMend("See whether the server that holds it runs, and is reachable from this machine; if not, unmount it (umount -l).").WithRetry(time.Minute)
}

// readMark reads a mark, if there is one. One that cannot be understood is
// one: what was accepted before is not forgotten because a file is damaged.
func readMark(open func() (io.ReadCloser, error)) (m mark, found bool, err error) {
	r, err := open()
	if errors.Is(err, fs.ErrNotExist) || isMissing(err) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	text, err := io.ReadAll(io.LimitReader(r, 4<<10))
	if err = errors.Join(err, r.Close()); err != nil {
		return m, false, err
	}
	if json.Unmarshal(text, &m) != nil {
		return mark{}, true, nil
	}
	return m, true, nil
}
