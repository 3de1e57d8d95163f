// Package host knows what a step of a recovery may do on this machine, and does
// it: services of systemd and Compose, fixed commands, a quarantine, a capture of
// evidence.
//
// Nothing is allowed that the machine's own configuration does not name, nothing
// goes through a shell, and nothing counts as done because a program said so:
// what it was to bring about is looked at afterwards.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// What can go wrong. Errors of this package wrap one of them.
var (
	ErrNotAllowed = errors.New("this machine's configuration does not allow it")
	ErrAbsent     = errors.New("this machine has no such program")
	ErrFailed     = errors.New("it was done and did not work")
	ErrUnknown    = errors.New("nobody knows whether it was done")
)

// Options make a Host.
type Options struct {
	Config Config
	Dir    string // where captures and the state of a quarantine lie; of its own
	Doors  func(ctx context.Context) ([]Door, error)
	Log    *slog.Logger
	Clock  func() time.Time
	Settle time.Duration // between the two looks at a service that was started; default 2 s
	Wait   func(ctx context.Context, d time.Duration) error
}

// Host is this machine.
type Host struct {
	o  Options
	mu sync.Mutex // of the quarantine
}

// New makes one. It runs nothing.
func New(o Options) *Host {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Settle <= 0 {
		o.Settle = 2 * time.Second
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	return &Host{o: o}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// output is what a program wrote: the last of it, and how much it was.
type output struct {
	mu    sync.Mutex
	tail  []byte
	total int64
}

// maxTail is how much of a program's output is kept.
const maxTail = 16 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total += int64(len(p))
	o.tail = append(o.tail, p...)
	if over := len(o.tail) - maxTail; over > 0 {
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.tail)
}

// last is the last line that says something, for people.
func (o *output) last() string {
	lines := strings.Split(strings.TrimSpace(o.String()), "\n")
	return clean(lines[len(lines)-1], 200)
}

// clean takes out what a terminal or a page would not show as text.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// environment is what programs get. Nothing of this process's own, which may hold
// paths of secrets, comes along.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "HOME=/nonexistent"}

// run runs a program and waits for it. Both of its outputs go to out. Out of
// time, it and everything that it started in its group are killed.
func (h *Host) run(ctx context.Context, limit time.Duration, out *output, in string, args ...string) error {
	if err := executable(args[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Env, c.Dir, c.Stdout, c.Stderr, c.Stdin = environment, "/", out, out, strings.NewReader(in)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 2 * time.Second
	err := c.Run()
	if ctx.Err() != nil {
		return problem.New(problem.Timeout, "host-unending", fmt.Sprintf("%s did not end in %s, and was killed.", filepath.Base(args[0]), limit)).
			WithMend("Look at the machine: it may have been done in part.").Wrap(ErrUnknown)
	}
	return err
}

// executable says whether a program may be run: one that others can change is
// whatever they want it to be.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return problem.New(problem.Unsupported, "host-program-absent", "This machine has no "+path+".").WithMend("Install it, or name another in continuity.allow.").Wrap(ErrAbsent)
	case err != nil:
		return problem.New(problem.Unsupported, "host-program-unreadable", path+" cannot be looked at.").Wrap(errors.Join(ErrAbsent, err))
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return problem.New(problem.Unsupported, "host-program-none", path+" is no program.").Wrap(ErrAbsent)
	case info.Mode()&0o002 != 0:
		return problem.New(problem.Denied, "host-program-writable", "Everybody on this machine can change "+path+": it is not run.").WithMend("Take the permission to write away with chmod o-w.").Wrap(ErrNotAllowed)
	}
	return nil
}

// Did is one thing that was done.
type Did struct {
	What   string        `json:"what"` // unit caddy.service
	Act    string        `json:"act"`
	Words  string        `json:"words"`
	Before string        `json:"before,omitempty"` // how it stood
	After  string        `json:"after,omitempty"`  // and stands
	Took   time.Duration `json:"took_ns"`
}

// does is something of this machine's that an act concerns.
type does struct {
	what string
	do   func(ctx context.Context) (Did, error)
}

// Plan says what an act would do on this machine, in its order.
func (h *Host) Plan(act string, functions []string) (out []string) {
	for _, d := range h.concerned(act, functions) {
		out = append(out, d.what)
	}
	return out
}

// concerned lists what an act is about: what starts last stops first.
func (h *Host) concerned(act string, functions []string) (out []does) {
	c := h.o.Config
	for _, u := range c.Units {
		if allows(u.May, act, Start, Stop) && concerns(u.Functions, functions) {
			out = append(out, does{"unit " + u.Name, func(ctx context.Context) (Did, error) { return h.unit(ctx, act, u) }})
		}
	}
	for _, p := range c.Compose {
		if allows(p.May, act, Start, Stop) && concerns(p.Functions, functions) {
			out = append(out, does{"compose project " + p.Name, func(ctx context.Context) (Did, error) { return h.project(ctx, act, p) }})
		}
	}
	for _, m := range c.Commands {
		if allows(m.On, act) && concerns(m.Functions, functions) {
			out = append(out, does{"command " + m.Name, func(ctx context.Context) (Did, error) { return h.command(ctx, act, m) }})
		}
	}
	if act == Stop {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

// Act does what an act is on this machine, one after the other. told hears what
// is being done. Nothing that an act is about is a refusal and no success.
func (h *Host) Act(ctx context.Context, act string, functions []string, told func(words string, done, total int)) (out []Did, err error) {
	list := h.concerned(act, functions)
	if len(list) == 0 {
		return nil, problem.New(problem.Denied, "host-nothing-allowed", fmt.Sprintf("This machine's configuration allows nothing to %s for %s.", act, strings.Join(functions, ", "))).
			WithMend("Name the units, projects or commands in continuity.allow on this node, or do it by hand and say so.").Wrap(ErrNotAllowed)
	}
	for i, d := range list {
		told(act+" "+d.what, i, len(list))
		began := h.o.Clock()
		did, err := d.do(ctx)
		did.What, did.Act, did.Took = d.what, act, h.o.Clock().Sub(began)
		out = append(out, did)
		if err != nil {
			return out, err
		}
	}
	told(fmt.Sprintf("%d done", len(list)), len(list), len(list))
	return out, nil
}

func failed(rule, words string) error {
	return problem.New(problem.Conflict, rule, words).WithMend("Look at the machine's own log of it, mend it, and try again.").Wrap(ErrFailed)
}
