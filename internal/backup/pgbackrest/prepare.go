package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// Prepare makes the repository where there is none, and checks the one that is
// there: its key, and that it is this database's. A repository that was there
// before and is not now is never made again: an unmounted directory looks just
// like an empty one.
func (e *Engine) Prepare(ctx context.Context, t target.Target) error {
	if err := usable(t); err != nil {
		return err
	}
	s, err := e.server()
	if err != nil {
		return err
	}
	if err := present(t); err != nil {
		return err
	}
	if _, err := e.configure(ctx, t); err != nil {
		return err
	}
	release, err := e.holdSoon(ctx, t)
	if err != nil {
		return err
	}
	defer release()
	i, err := e.info(ctx, t)
	var p *problem.Error
	switch {
	case errors.As(err, &p) && p.Code == "repository-missing":
		if _, serr := os.Lstat(e.preparedMark(t)); serr == nil {
			return vanished(t, e.preparedMark(t))
		}
		if err := t.Admit(ctx); err != nil {
			return err
		}
		if err := e.makeRepository(t); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := e.own(t, i, s); err != nil {
			return err
		}
		if err := t.Admit(ctx); err != nil {
			return err
		}
		return e.markPrepared(t)
	}
	if err := t.Admit(ctx); err != nil {
		return err
	}
	if err := e.createStanza(ctx, t, s); err != nil {
		return err
	}
	return e.markPrepared(t)
}

// preparing is how long a repository may take to be prepared by another run:
// a node does so when it starts, and each backup before it begins.
const preparing = 20 * time.Second

// holdSoon is hold, after another run that ends soon.
func (e *Engine) holdSoon(ctx context.Context, t target.Target) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, preparing)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		release, err = e.hold(t)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != "engine-locked" {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-waiting.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// createStanza waits for a push of WAL under way, which holds the lock it needs.
func (e *Engine) createStanza(ctx context.Context, t target.Target, s Server) error {
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := e.run(ctx, t, nil, append(s.connection(), "--log-level-console=warn", "stanza-create")...)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != "engine-locked" {
			return err
		}
		select {
		case <-waiting.Done():
			return err
		case <-tick.C:
		}
	}
}

func (e *Engine) markPrepared(t target.Target) error {
	return os.WriteFile(e.preparedMark(t), []byte(repositoryPath(t)+"\n"), 0o600)
}

// preparedMark is a file that says that a target had a repository.
func (e *Engine) preparedMark(t target.Target) string {
	return filepath.Join(e.o.Dir, t.Name+".prepared")
}

func vanished(t target.Target, mark string) error {
	return problem.New(problem.Unavailable, "target-gone", fmt.Sprintf("The repository of the database that was at %s is not there now.", t.Name)).
		WithField("backup.targets").WithMend("Mount or reach the place that holds it. If it is lost for good, remove " + mark + " to begin a new one. Until then WAL collects in the database's directory.")
}

// makeRepository makes the repository's directory, for the server's account.
func (e *Engine) makeRepository(t target.Target) error {
	if t.Kind != target.Directory {
		return nil
	}
	path := repositoryPath(t)
	if err := e.o.Account.Reaches(filepath.Dir(path)); err != nil {
		return problem.New(problem.Denied, "target-denied", fmt.Sprintf("The database runs as %s, who cannot reach the target %s: %v", e.o.Account.Name(), t.Name, err)).
			WithField("backup.targets").WithMend("Make every directory on the way to " + t.Path + " passable with `chmod o+x`.").Wrap(err)
	}
	entries, err := os.ReadDir(path)
	if err == nil && len(entries) > 0 {
		return problem.New(problem.Conflict, "repository-foreign", "The directory "+path+" holds something that is no repository of the database.").
			WithField("backup.targets").WithMend("Move it away, or choose another path.")
	}
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return failure(t, engine.Output{Last: []string{"ERROR: " + describe(err)}}, err)
	}
	if c := e.o.Account.Credential(); c != nil {
		if err := os.Lchown(path, int(c.Uid), int(c.Gid)); err != nil {
			return failure(t, engine.Output{Last: []string{"ERROR: " + describe(err)}}, err)
		}
	}
	return nil
}

// describe names an error of the system as pgBackRest does.
func describe(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + capitalised(err)
}

func capitalised(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return " Permission denied"
	case strings.Contains(err.Error(), "read-only"):
		return " Read-only file system"
	case strings.Contains(err.Error(), "no space"):
		return " No space left on device"
	}
	return ""
}

// own refuses the repository of another database. pgBackRest would say so
// itself at most commands, in words about files.
func (e *Engine) own(t target.Target, i info, s Server) error {
	if len(i.DB) == 0 {
		return nil
	}
	id, err := systemID(filepath.Join(s.Data, "global", "pg_control"))
	if err != nil {
		return err
	}
	if newest := i.DB[len(i.DB)-1]; newest.SystemID != id {
		return problem.New(problem.Conflict, "repository-foreign", fmt.Sprintf("The repository at %s is that of another database (system %s, not %s).",
			t.Name, strconv.FormatUint(newest.SystemID, 10), strconv.FormatUint(id, 10))).
			WithField("backup.targets").WithMend("Choose another path for this node; nothing was changed there.")
	}
	return nil
}

// systemID reads the identity of a cluster, the first eight bytes of
// pg_control in the machine's byte order (catalog/pg_control.h).
func systemID(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("reading the identity of the database: %w", err)
	}
	defer f.Close()
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, fmt.Errorf("reading the identity of the database: %w", err)
	}
	return nativeEndian(b), nil
}
