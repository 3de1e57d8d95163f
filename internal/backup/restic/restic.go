// Package restic knows how files are backed up with restic: encrypted and
// deduplicated snapshots in a directory, a bucket or on an SFTP server.
//
// restic's word is not taken for more than it is worth. Measured with 0.14: a
// source that is missing is skipped with exit code 0, a restore of a damaged
// repository succeeds where the cache still holds what is damaged, and a
// target that became read-only is tried again for a quarter of an hour. So
// sources are looked at first, a restore never uses the cache and is counted
// against the snapshot, and runs are watched.
package restic

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// Name is the engine's name.
const Name = "restic"

// Options say how restic is run. State and Runtime are this engine's alone.
type Options struct {
	Binary     string // empty: restic on the PATH
	SSH        string // empty: ssh on the PATH; for SFTP targets
	Repository string // the repository's directory below the target's path; empty: restic
	Node       string // name of this node, noted with every snapshot as its host
	State      string // directory for the cache, temporary files, and notes of runs
	Runtime    *engine.Runtime
	Passphrase engine.Passphrase
	Processes  int           // processors it may use; 0: 2
	Behind     bool          // it takes what others leave of the processors: it is not what people wait for
	Sample     string        // of the packs that Check reads whole, as in restic's --read-data-subset; empty: 10%
	Patience   time.Duration // with a target that is away; 0: two minutes
	Stall      time.Duration // without a byte of progress; 0: ten minutes
	Log        *slog.Logger
	Now        func() time.Time
}

// Engine runs restic.
type Engine struct {
	o Options
}

var _ engine.Engine = (*Engine)(nil)

// New prepares the engine's directories. restic is looked for when it is first needed.
func New(o Options) (*Engine, error) {
	if o.Repository == "" {
		o.Repository = Name
	}
	if o.Processes == 0 {
		o.Processes = 2
	}
	if o.Sample == "" {
		o.Sample = "10%"
	}
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	if o.Stall == 0 {
		o.Stall = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Node == "" {
		o.Node = "foundry"
	}
	state, err := filepath.Abs(o.State)
	if err != nil {
		return nil, err
	}
	o.State = state
	for _, dir := range []string{"cache", "tmp", "runs"} {
		if err := os.MkdirAll(filepath.Join(o.State, dir), 0o700); err != nil {
			return nil, problem.New(problem.Unavailable, "engine-state", "The directory "+o.State+" for running restic cannot be made.").
				WithMend("Make it writable for the user that runs foundry.").Wrap(err)
		}
	}
	return &Engine{o: o}, nil
}

// Name implements engine.Engine.
func (e *Engine) Name() string { return Name }

// program finds a program that the engine needs.
func program(named, name, pkg string) (string, error) {
	if named != "" {
		return named, nil
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", problem.New(problem.Unavailable, "engine-missing", "The program "+name+" is not installed.").
			WithMend("Run `make setup`, or: apt-get install " + pkg).Wrap(err)
	}
	return filepath.Abs(found)
}

// Prepare makes the repository where there is none. A bucket or directory that
// is missing is not made: a mount that is away must not become a backup.
func (e *Engine) Prepare(ctx context.Context, t target.Target) error {
	return e.exclusively(t, func() error {
		found, err := e.look(ctx, t)
		if err != nil {
			return err
		}
		return e.with(ctx, t, func(s *session) error {
			if err := t.Admit(ctx); err != nil {
				return err
			}
			if found == nothing {
				if _, err := s.run(ctx, command{op: opInit, args: []string{"init", "--repository-version", "2"}}); err != nil {
					return err
				}
			}
			_, err := s.run(ctx, command{op: opRead, args: []string{"cat", "config", "--no-lock", "--no-cache"}})
			return err
		})
	})
}

// what is at the repository's place.
type what int

const (
	nothing what = iota
	repository
)

// look tells a repository from an empty place and from anything else.
func (e *Engine) look(ctx context.Context, t target.Target) (what, error) {
	store, err := t.Store(ctx)
	if err != nil {
		return nothing, err
	}
	defer store.Close()
	if t.Kind != target.SFTPHost || e.madeSFTP(ctx, store) {
		r, err := store.Open(ctx, e.o.Repository+"/config")
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<16))
			return repository, r.Close()
		}
		if !missingFile(err) {
			return nothing, err
		}
	}
	files, err := store.List(ctx, e.o.Repository+"/")
	if err != nil && !missingFile(err) {
		return nothing, err
	}
	// What an interrupted init leaves are keys without a configuration.
	foreign := slices.ContainsFunc(files, func(f target.File) bool {
		return !strings.HasPrefix(f.Name, e.o.Repository+"/keys/")
	})
	if foreign {
		return nothing, problem.New(problem.Conflict, "repository-foreign", "At the target "+t.Name+" the place of the repository holds something else.").
			WithField("path").WithMend("Give the target another path, or move away what is in " + path.Join(t.Path, e.o.Repository) + ".")
	}
	return nothing, nil
}

// madeSFTP reports whether the target's directory is there; on an SFTP server
// the first repository makes it.
func (e *Engine) madeSFTP(ctx context.Context, s target.Store) bool {
	_, err := s.List(ctx, e.o.Repository+"/config")
	return err == nil
}

func missingFile(err error) bool {
	var p *problem.Error
	return errors.As(err, &p) && p.Code == "target-file-missing"
}

// Check implements engine.Engine: the structure whole, and a sample of the
// data read and decrypted, from the target and not from the cache.
func (e *Engine) Check(ctx context.Context, t target.Target, p engine.Progress) error {
	return e.exclusively(t, func() error {
		return e.with(ctx, t, func(s *session) error {
			p.Tell(0, 0, "checking the repository")
			args := []string{"check", "--read-data-subset", e.o.Sample}
			_, err := s.run(ctx, command{op: opCheck, args: args, locks: true})
			if unwritable(err) {
				_, err = s.run(ctx, command{op: opCheck, args: append(args, "--no-lock")})
			}
			return err
		})
	})
}

// unwritable reports whether a target can still be read, but not written.
func unwritable(err error) bool {
	var p *problem.Error
	return errors.As(err, &p) && slices.Contains([]string{"target-full", "target-read-only", "target-denied"}, p.Code)
}
