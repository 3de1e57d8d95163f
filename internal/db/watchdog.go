package db

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A cluster that is the fleet's primary may write only until a deadline, which
// moves on for as long as the fleet renews the node's lease. Three keep it: the
// supervisor, which starts no server after it; the kernel, which ends the
// server with the supervisor; and a watchdog, a process of its own that ends
// the server when the deadline has passed or the supervisor is gone, because a
// supervisor that is stopped (SIGSTOP, a debugger) cannot and a server that it
// started goes on.
//
// Times are of the clock that goes on while the machine sleeps
// (CLOCK_BOOTTIME): a machine that was suspended past its deadline wakes after
// it.

// deadline is until when a server may run, in nanoseconds since boot; 0: for
// good; -1: not at all.
type deadline struct{ at atomic.Int64 }

func (d *deadline) passed() bool {
	at := d.at.Load()
	return at < 0 || at > 0 && sinceBoot() >= at
}

// Moment is a time of this machine that no change of its clock moves, and that
// goes on while it sleeps. It means nothing on another machine.
type Moment int64

// Now is this moment.
func Now() Moment { return Moment(sinceBoot()) }

// Add is the moment a while later.
func (m Moment) Add(d time.Duration) Moment { return m + Moment(d) }

// Left is how long it is until then; negative: it has passed.
func (m Moment) Left() time.Duration { return time.Duration(m - Now()) }

// Forever is the deadline of a server that nobody could take over from.
const Forever Moment = 0

// watchdog is the supervisor's side of the process.
type watchdog struct {
	command func() *exec.Cmd
	log     *slog.Logger

	data  string      // of the server
	alive atomic.Bool // without it no server runs

	mu     sync.Mutex
	cmd    *exec.Cmd
	in     io.WriteCloser
	last   Moment
	closed bool
}

// watchdogPatience is how long a watchdog may take to begin.
const watchdogPatience = 20 * time.Second

// start begins the process and waits until it watches.
func (w *watchdog) start(until Moment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = until
	return w.begin()
}

func (w *watchdog) begin() error {
	cmd := w.command()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Control-C in a terminal is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the database's watchdog: %w", err)
	}
	said := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil && line != watching {
			err = fmt.Errorf("it said %q", line)
		}
		said <- err
	}()
	err = send(in, w.last)
	if err == nil {
		select {
		case err = <-said:
		case <-time.After(watchdogPatience):
			err = errors.New("it does not answer")
		}
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("starting the database's watchdog: %w", err)
	}
	w.cmd, w.in = cmd, in
	w.alive.Store(true)
	go w.mind(cmd)
	return nil
}

// mind starts another watchdog for one that ends.
func (w *watchdog) mind(cmd *exec.Cmd) {
	err := cmd.Wait()
	for {
		w.mu.Lock()
		if w.closed || w.cmd != cmd {
			w.mu.Unlock()
			return
		}
		w.log.Error("the database's watchdog ended, starting another", "cause", err)
		err = w.begin()
		w.mu.Unlock()
		if err == nil {
			return
		}
		w.alive.Store(false)
		endServer(w.data)
		time.Sleep(time.Second)
	}
}

func send(to io.Writer, until Moment) error {
	_, err := io.WriteString(to, strconv.FormatInt(int64(until), 10)+"\n")
	return err
}

// extend moves the deadline.
func (w *watchdog) extend(until Moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = until
	if w.in != nil {
		_ = send(w.in, until) // one that is gone is started anew with it
	}
}

// end lets the watchdog go: it ends what is left of the server.
func (w *watchdog) end() {
	w.mu.Lock()
	w.closed = true
	if w.in != nil {
		_ = w.in.Close()
	}
	w.mu.Unlock()
}

// watching is what a watchdog says when it has begun.
const watching = "watching\n"

const (
	watchEvery = 50 * time.Millisecond  // how late a watchdog may notice a deadline
	watchMercy = 300 * time.Millisecond // for a server to end at the signal that it may not refuse
	watchAfter = 10 * time.Second       // how long what is left is looked for when the supervisor is gone
)

// Watchdog is the process that ends the server of a data directory when its
// deadline has passed or nobody speaks on in any more. It returns when in has
// ended and no server is left.
func Watchdog(ctx context.Context, data string, in io.Reader, out io.Writer) error {
	var until deadline
	until.at.Store(-1)
	gone := make(chan struct{})
	begun := make(chan error, 1)
	go func() {
		defer close(gone)
		lines := bufio.NewScanner(in)
		for first := true; lines.Scan(); first = false {
			at, err := strconv.ParseInt(strings.TrimSpace(lines.Text()), 10, 64)
			if err != nil {
				at = -1 // whoever speaks is not the supervisor
			}
			until.at.Store(at)
			if first {
				_, err := io.WriteString(out, watching)
				begun <- err
			}
		}
	}()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-begun:
			if err != nil {
				return err
			}
		case <-gone:
			ctx, cancel := context.WithTimeout(ctx, watchAfter)
			defer cancel()
			for n := 0; n < 2; { // twice, because one may be starting
				if !endServer(data) {
					n++
				}
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
				}
			}
			return nil
		case <-tick.C:
			if until.passed() {
				endServer(data)
			}
		}
	}
}

// endServer ends every process of a server at once: SIGQUIT, which has a
// process of PostgreSQL exit without finishing anything, then SIGKILL. What was
// committed is in its log. It reports whether there was one.
func endServer(data string) bool {
	all := serverProcesses(data)
	if len(all) == 0 {
		return false
	}
	killAll(all, syscall.SIGQUIT)
	if !waitUntil(context.Background(), watchMercy, func() bool { return len(serverProcesses(data)) == 0 }) {
		killAll(serverProcesses(data), syscall.SIGKILL)
	}
	return true
}

// mayRun says whether the server may run now.
func (c *Cluster) mayRun() bool {
	return !c.until.passed() && (c.dog == nil || c.dog.alive.Load())
}

// Extend moves the moment until which the server may run. A deadline that has
// passed starts no server again before it is moved.
func (c *Cluster) Extend(until Moment) {
	c.until.at.Store(int64(until))
	if c.dog != nil {
		c.dog.extend(until)
	}
}

// Fence ends the server at once and keeps it down. Open transactions are lost;
// what was committed is in its log.
func (c *Cluster) Fence(ctx context.Context) error {
	c.until.at.Store(-1)
	if c.dog != nil {
		c.dog.extend(-1)
	}
	for ctx.Err() == nil && endServer(c.at.data) {
	}
	return c.Stop(ctx)
}
