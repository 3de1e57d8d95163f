package restic

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/problem"
)

// operation is what a run is for: the same words of restic mean another thing
// when it writes to the target and when it writes to this machine's disk.
type operation string

const (
	opInit    operation = "init"
	opBackup  operation = "backup"
	opRead    operation = "read"
	opCheck   operation = "check"
	opRestore operation = "restore"
	opExpire  operation = "expire"
)

// command is one run of restic.
type command struct {
	op    operation
	args  []string
	dir   string
	locks bool // it locks the repository: its process is noted, to tell its lock later
	quiet bool // its output is for line alone
	line  func(string)
	pid   func(int)
	alive func() bool // reports progress since the last call; nil: a run too short to be watched
	codes []int       // exit codes that are no failure; 0 is none
}

// run runs restic to its end. Its error says what to do.
func (s *session) run(ctx context.Context, c command) (engine.Output, error) {
	if c.locks {
		if err := s.removeDeadLocks(ctx); err != nil {
			return engine.Output{}, err
		}
	}
	return s.start(ctx, c)
}

func (s *session) start(ctx context.Context, c command) (engine.Output, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watch{s: s, op: c.op, cancel: cancel, line: c.line, now: s.e.o.Now}
	stop := w.begin(c.alive)
	defer stop()
	var note *runNote
	child := engine.Child{
		Path: s.program, Args: slices.Concat(s.args, c.args), Env: s.env, Dir: c.dir, Redact: s.redact, Quiet: c.quiet, Behind: s.e.o.Behind, Stop: syscall.SIGINT,
		Line: w.said,
		Started: func(pid int) {
			if c.locks {
				note = s.e.noteRun(s.t, pid)
			}
			if c.pid != nil {
				c.pid(pid)
			}
		},
	}
	out, err := child.Run(ctx)
	if err == nil || isExit(err) && slices.Contains(c.codes, out.Exit) {
		note.remove() // it took its lock away; one that failed may not have been able to
		return out, nil
	}
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if out.Exit < 0 && isExit(err) {
		return out, problem.New(problem.Upstream, "engine-killed", "restic was killed while it worked with the target "+s.t.Name+".").
			WithMend("The next run goes on where it stopped. If nobody killed it, the machine had no memory left: its log says so.").Wrap(err)
	}
	return out, s.explain(c.op, out.Exit, w.all(out), err)
}

func isExit(err error) bool {
	var e *exec.ExitError
	return errors.As(err, &e)
}

// watch ends a run that restic would try for too long.
type watch struct {
	s      *session
	op     operation
	cancel context.CancelCauseFunc
	line   func(string)
	now    func() time.Time

	mu     sync.Mutex
	first  []string  // what it said first: a long trace may follow the reason
	away   time.Time // since when the target has refused or been away; zero: it answers
	last   string    // what it said
	moving time.Time // when there was progress
}

const retrying = "returned error, retrying after"

// said looks at every line. A target that refuses for good ends the run at once.
func (w *watch) said(line string) {
	if strings.Contains(line, retrying) {
		if err := w.s.final(w.op, line); err != nil {
			w.cancel(err)
		}
		w.mu.Lock()
		if w.away.IsZero() {
			w.away = w.now()
		}
		w.last = line
		w.mu.Unlock()
	}
	if w.line != nil {
		w.line(line)
	}
	w.mu.Lock()
	if len(w.first) < 20 && !strings.HasPrefix(line, "{") && len(line) < 4096 {
		w.first = append(w.first, line)
	}
	w.mu.Unlock()
}

// all is the beginning and the end of what was said.
func (w *watch) all(out engine.Output) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.first, "\n") + "\n" + out.Text()
}

// begin looks again and again whether there was progress. Once stop has
// returned, alive is not asked any more: whoever it tells may be gone.
func (w *watch) begin(alive func() bool) (stop func()) {
	w.moving = w.now()
	done := make(chan struct{})
	var asking sync.Mutex
	stopped := false
	ask := func() (moved, over bool) {
		asking.Lock()
		defer asking.Unlock()
		return !stopped && alive != nil && alive(), stopped
	}
	tick := time.NewTicker(200 * time.Millisecond)
	go func() {
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				moved, over := ask()
				if over {
					return
				}
				w.look(alive != nil, moved)
			}
		}
	}()
	return func() {
		asking.Lock()
		stopped = true
		asking.Unlock()
		close(done)
	}
}

// look ends a run that does not move, where that can be seen at all.
func (w *watch) look(seen, moved bool) {
	w.mu.Lock()
	now := w.now()
	if moved {
		w.moving, w.away = now, time.Time{}
	}
	away, stalled, last := !w.away.IsZero() && now.Sub(w.away) > w.s.e.o.Patience, seen && now.Sub(w.moving) > w.s.e.o.Stall, w.last
	w.mu.Unlock()
	switch {
	case away:
		w.cancel(w.s.diagnose(w.op, last))
	case stalled:
		w.cancel(problem.New(problem.Timeout, "engine-stalled", "Nothing has moved between this machine and the target "+w.s.t.Name+" for "+w.s.e.o.Stall.String()+".").
			WithMend("Check the network and the target; the next run goes on where this one stopped.").WithRetry(time.Minute))
	}
}
