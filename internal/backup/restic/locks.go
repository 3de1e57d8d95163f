package restic

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// exclusively keeps other runs that write to this repository away, of this and
// of other processes on this machine. restic's own locks let two backups run
// at once; a second one here would only double the load.
func (e *Engine) exclusively(t target.Target, do func() error) error {
	return e.holding(t, "write", syscall.LOCK_EX, do)
}

// expirySoon is how long an expiry waits for a backup or a restore that may
// end meanwhile: the schedule begins all three, and a person does not know.
const expirySoon = 20 * time.Second

// holdingSoon is holding, after a run that ends soon.
func (e *Engine) holdingSoon(ctx context.Context, t target.Target, name string, how int, do func() error) error {
	waiting, cancel := context.WithTimeout(ctx, expirySoon)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		held := false
		err := e.holding(t, name, how, func() error { held = true; return do() })
		var p *problem.Error
		if held || !errors.As(err, &p) || p.Code != "engine-locked" {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-waiting.Done():
			return err
		case <-tick.C:
		}
	}
}

// holding holds a lock file while do runs. The kernel lets go of it when the
// process ends, however it ends.
func (e *Engine) holding(t target.Target, name string, how int, do func() error) error {
	path := filepath.Join(e.o.State, "runs", t.Name+"-"+filepath.Base(e.o.Repository)+"."+name+".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return problem.New(problem.Unavailable, "engine-state", "The directory "+e.o.State+" for running restic cannot be written.").
			WithMend("Make it writable for the user that runs foundry.").Wrap(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		return problem.New(problem.Conflict, "engine-locked", "Another run of restic at the target "+t.Name+" has not ended.").
			WithMend("Wait for it; `foundry backup list` shows what runs.").WithRetry(time.Minute).Wrap(err)
	}
	// Let go by name, not by closing: a program that another goroutine starts
	// at this moment has a copy of the file until it is another program.
	defer func() { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }()
	return do()
}

// runNote is what is kept about a process that may hold a lock in a repository,
// so that the lock can be told for ours, and dead, after a kill.
type runNote struct {
	PID   int       `json:"pid"`
	Start string    `json:"start"` // when the process started, in the kernel's ticks since boot
	Boot  string    `json:"boot"`
	Host  string    `json:"host"`
	Began time.Time `json:"began"`
	path  string
}

func (e *Engine) notesOf(t target.Target) string {
	return filepath.Join(e.o.State, "runs", t.Name+"-"+filepath.Base(e.o.Repository)+".pid")
}

// noteRun notes a process. It takes restic far longer to open a repository
// than this takes, so there is no lock without a note.
func (e *Engine) noteRun(t target.Target, pid int) *runNote {
	host, _ := os.Hostname()
	n := &runNote{PID: pid, Start: startOf(pid), Boot: bootID(), Host: host, Began: e.o.Now().UTC(), path: filepath.Join(e.notesOf(t), strconv.Itoa(pid)+".json")}
	text, err := json.Marshal(n)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(n.path), 0o700), os.WriteFile(n.path, text, 0o600))
	}
	if err != nil { // then a lock it leaves stays until a person removes it
		e.o.Log.Warn("a run of restic could not be noted", "target", t.Name, "cause", err)
	}
	return n
}

func (n *runNote) remove() {
	if n != nil {
		_ = os.Remove(n.path)
	}
}

// dead reports whether the process that the note is about has surely ended.
func (n *runNote) dead() bool {
	return n.Boot != "" && n.Start != "" && (n.Boot != bootID() || startOf(n.PID) != n.Start)
}

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// startOf is when a process started (proc(5), /proc/pid/stat, field 22); empty
// when there is none. The second field may hold anything, in parentheses.
func startOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" { // a zombie holds nothing any more
		return ""
	}
	return fields[19]
}

// removeDeadLocks removes locks that processes of this node left behind, and
// no other: restic's own unlock also takes away every lock that is half an
// hour old, and sends a signal to whatever has the process id now.
func (s *session) removeDeadLocks(ctx context.Context) error {
	notes, err := s.deadNotes()
	if err != nil || len(notes) == 0 {
		return err
	}
	store, err := s.t.Store(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	dir := s.e.o.Repository + "/locks/"
	files, err := store.List(ctx, dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		id := strings.TrimPrefix(f.Name, dir)
		if len(id) != 64 || !snapshotID.MatchString(id) {
			continue
		}
		out, err := s.start(ctx, command{op: opRead, args: []string{"cat", "lock", id, "--no-lock"}})
		if err != nil {
			continue // gone meanwhile, or not whole
		}
		l, err := parseLock(out.Out)
		if err != nil || !ours(l, notes) {
			continue
		}
		if err := store.Delete(ctx, f.Name); err != nil {
			return err
		}
		s.e.o.Log.Info("removed the lock that a killed run left", "target", s.t.Name, "pid", l.PID, "since", l.Time)
	}
	for _, n := range notes {
		n.remove()
	}
	return nil
}

// ours reports whether a dead process of this node made the lock: the same
// machine's name, the same process id, and not before that process began.
func ours(l lock, notes []*runNote) bool {
	for _, n := range notes {
		if n.PID == l.PID && n.Host == l.Host && n.Host != "" && !l.Time.Before(n.Began.Add(-time.Second)) {
			return true
		}
	}
	return false
}

func (s *session) deadNotes() (dead []*runNote, err error) {
	dir := s.e.notesOf(s.t)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		n := &runNote{path: filepath.Join(dir, entry.Name())}
		text, rerr := os.ReadFile(n.path)
		if rerr != nil || json.Unmarshal(text, n) != nil {
			_ = os.Remove(n.path) // half a note tells nothing
			continue
		}
		if n.dead() {
			dead = append(dead, n)
		}
	}
	return dead, err
}
