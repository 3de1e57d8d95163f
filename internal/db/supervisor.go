package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// supervisor keeps one server process alive.
type supervisor struct {
	c        *Cluster
	pid      atomic.Int64
	restarts atomic.Int64
	isReady  atomic.Bool
	failed   chan error    // why the first start failed
	quit     chan struct{} // closed when the server is to stop
	done     chan struct{} // closed when it has

	mu      sync.Mutex
	process *os.Process
	once    sync.Once
}

const (
	shortestBackoff = 100 * time.Millisecond
	longestBackoff  = 10 * time.Second
	steady          = 30 * time.Second // a server that lived this long has recovered
)

func (s *supervisor) begin(c *Cluster) {
	s.c = c
	s.failed = make(chan error, 1)
	s.quit = make(chan struct{})
	s.done = make(chan struct{})
	go s.run()
}

func (s *supervisor) ready() { s.isReady.Store(true) }

// run starts the server, and again whenever it dies, until quit. It holds on
// to its thread to the end: the kernel stops the server when that thread ends.
func (s *supervisor) run() {
	runtime.LockOSThread()
	defer close(s.done)
	backoff := shortestBackoff
	for {
		if !s.permitted() {
			return
		}
		started := time.Now()
		out, err := s.serve(started)
		if s.quitting() {
			return
		}
		cause := diagnose(s.c.at.dir, "running postgres", out, err)
		if !s.isReady.Load() {
			s.failed <- cause
			return
		}
		if time.Since(started) > steady {
			backoff = shortestBackoff
		}
		s.c.log.Error("database server died, starting it again", "cause", cause, "after", time.Since(started), "pause", backoff)
		select {
		case <-s.quit:
			return
		case <-time.After(backoff):
		}
		backoff = min(backoff*2, longestBackoff)
		// Backends of a killed server notice only when they next look; until
		// then they hold its shared memory, and a new one refuses to start.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		killAll(serverProcesses(s.c.at.data), syscall.SIGQUIT)
		if err := stopSurvivors(ctx, s.c.at.data); err != nil {
			s.c.log.Error("processes of the dead database server remain", "cause", err)
		}
		cancel()
		s.restarts.Add(1)
	}
}

// permitted waits until the server may run: not after its deadline, until that
// is moved. False: the cluster is to stop.
func (s *supervisor) permitted() bool {
	if s.c.mayRun() {
		return !s.quitting()
	}
	s.c.log.Warn("the database stays down: this node's time as the fleet's primary is over")
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for !s.c.mayRun() {
		select {
		case <-s.quit:
			return false
		case <-tick.C:
		}
	}
	return !s.quitting()
}

// serve runs the server once, to its end, and returns what it wrote.
func (s *supervisor) serve(started time.Time) (string, error) {
	c := s.c
	args := append([]string{"-D", c.at.data, "-c", "config_file=" + filepath.Join(c.at.etc, "postgresql.conf")}, c.args...)
	cmd := exec.Command(filepath.Join(c.srv.dir, "postgres"), args...)
	cmd.Dir = c.at.dir
	cmd.Env = serverEnvironment()
	cmd.SysProcAttr = c.who.attributes()
	cmd.WaitDelay = time.Second
	var out lastBytes
	cmd.Stderr = &out
	s.mu.Lock()
	if s.quitting() {
		s.mu.Unlock()
		return "", nil
	}
	err := cmd.Start()
	s.process = cmd.Process
	s.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("starting the server: %w", err)
	}
	s.pid.Store(int64(cmd.Process.Pid))
	err = cmd.Wait()
	s.pid.Store(0)
	return out.String() + logsSince(c.at.log, started), err
}

func (s *supervisor) quitting() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

func (s *supervisor) signal(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.Signal(sig) // it may be gone already
	}
}

// end stops the server and waits for it: fast, then at once, then by force.
func (s *supervisor) end(ctx context.Context) error {
	s.once.Do(func() { close(s.quit) })
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		s.signal(sig)
		select {
		case <-s.done:
			return nil
		case <-ctx.Done():
		}
		// Out of time: a little for each harder way.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
	}
	<-s.done
	return nil
}

func isClosedFile(err error) bool { return errors.Is(err, os.ErrClosed) }

// lastBytes keeps the end of what is written to it.
type lastBytes struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	const keep = 8 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if n := len(l.buf); n > keep {
		l.buf = append(l.buf[:0], l.buf[n-keep:]...)
	}
	return len(p), nil
}

func (l *lastBytes) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
