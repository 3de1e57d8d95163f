package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options say where mirrors are and how Git is run.
type Options struct {
	Dir     string // <data-dir>/mirrors
	Git     string // empty: git on the PATH
	SSH     string // empty: ssh on the PATH
	Runtime *engine.Runtime
	Timeout time.Duration // of one fetch; 0: an hour
	Log     *slog.Logger
	Now     func() time.Time
}

// Mirrors are the mirrored repositories of a node.
type Mirrors struct{ o Options }

// New makes the directory of the mirrors.
func New(o Options) (*Mirrors, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if o.Timeout == 0 {
		o.Timeout = time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, problem.New(problem.Unavailable, "mirror-dir", "The directory for mirrors cannot be made: "+o.Dir+".").WithMend("Make it writable for the user that runs foundry.").Wrap(err)
	}
	return &Mirrors{o: o}, nil
}

// State is what is known of one mirror. It lies beside the mirror, and goes
// into the backups with it.
type State struct {
	Name    string    `json:"name"`
	URL     string    `json:"url"`
	Tried   time.Time `json:"tried_at"`
	Fetched time.Time `json:"fetched_at,omitzero"` // the last time that everything was fetched; zero: never
	Refs    int       `json:"refs"`
	Bytes   int64     `json:"bytes"`
	Branch  string    `json:"branch,omitempty"`   // the remote's main one
	Commit  string    `json:"commit,omitempty"`   // newest of all branches
	At      time.Time `json:"commit_at,omitzero"` // when that was made, as it says itself
	Kept    []Kept    `json:"kept,omitempty"`     // what the last fetch saved from being lost
	Code    string    `json:"code,omitempty"`     // of what went wrong at the last try
	Reason  string    `json:"reason,omitempty"`
	Mend    string    `json:"mend,omitempty"`
}

// Kept is a ref that the remote removed, or forced to another history, and
// where the mirror keeps what it was.
type Kept struct {
	Ref    string `json:"ref"`
	Commit string `json:"commit"`
	As     string `json:"as"` // refs/foundry/<date>/…
}

// Age is how long ago the mirror was whole; false: it never was.
func (s State) Age(now time.Time) (time.Duration, bool) {
	return max(now.Sub(s.Fetched), 0), !s.Fetched.IsZero()
}

// Path is where a mirror lies.
func (m *Mirrors) Path(name string) string { return filepath.Join(m.o.Dir, name+".git") }

func (m *Mirrors) statePath(name string) string { return filepath.Join(m.o.Dir, name+".json") }

// Dir holds every mirror, and is what goes into the backups.
func (m *Mirrors) Dir() string { return m.o.Dir }

// State reads what is known of a mirror; of one that was never fetched, nothing.
func (m *Mirrors) State(name string) (State, error) {
	text, err := os.ReadFile(m.statePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return State{Name: name}, nil
	}
	s := State{}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return State{Name: name}, problem.New(problem.Internal, "mirror-state", "What was noted of the mirror "+name+" cannot be read.").WithMend("The next fetch writes it again.").Wrap(err)
	}
	return s, nil
}

// List names every mirror that is there, also those that are not configured any more.
func (m *Mirrors) List() (names []string, err error) {
	entries, err := os.ReadDir(m.o.Dir)
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".git"); ok && e.IsDir() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

func (m *Mirrors) note(s State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(m.statePath(s.Name), append(text, '\n'), 0o600)
}

// locked keeps two fetches of one mirror apart, across processes.
func (m *Mirrors) locked(name string, do func() error) error {
	f, err := os.OpenFile(filepath.Join(m.o.Dir, name+".lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return problem.New(problem.Unavailable, "mirror-dir", "The directory for mirrors cannot be written: "+m.o.Dir+".").WithMend("Make it writable for the user that runs foundry; is its disk full?").Wrap(err)
	}
	// Let go by name, not by closing: a program that another goroutine starts
	// at this moment has a copy of the file until it is another program.
	defer func() { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN); _ = f.Close() }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return problem.New(problem.Conflict, "mirror-locked", "The mirror "+name+" is being fetched already.").WithMend("Wait for it to end.").WithRetry(time.Minute).Wrap(err)
	}
	return do()
}

// bounded ends a run that writes more than the mirror may hold.
func (m *Mirrors) bounded(ctx context.Context, r Repository, dir string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if size := sizeOf(dir); size > r.maxBytes() {
					cancel(problem.New(problem.TooLarge, "mirror-too-large", "The mirror "+r.Name+" would become larger than it may.").
						WithField("max_mb").WithMend("Look at what was pushed to the repository; if it is meant, raise max_mb."))
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// sizeOf is the size of a repository's objects.
func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(filepath.Join(dir, "objects"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}
