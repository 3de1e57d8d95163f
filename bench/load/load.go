//go:build linux

// Package load knows how to put HTTP load on a server while using little of
// the processor that the server needs: one thread, one epoll instance, every
// answer compared byte by byte with the one that is expected.
package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what load to make. Without Rate it is a closed loop: every
// connection sends its next request when it has its answer. With Rate it is an
// open loop: requests are due whatever the server does, each at a random moment
// of its own slot of 1/Rate, so that no rhythm of the server or of its upstream
// can fall in step. A request's time counts from when it was due, also while it
// waits for a free connection. The moments are the same in every run.
type Options struct {
	Address     string
	Request     []byte        // a whole HTTP/1.1 request
	Expect      []byte        // the body that every answer must have
	First       int           // how much of the body brings the first token
	Connections int           // in all
	Rate        float64       // requests per second; 0 for a closed loop
	Warm        time.Duration // is not measured
	Duration    time.Duration // after Warm; 0 for until Count
	Count       int           // requests in all; 0 for until Duration
	Every       int           // answers between two calls of Progress; 0 for none
	Grace       time.Duration // for requests in flight at the end; default 10 s
	CA          []byte        // PEM; set for TLS 1.3
	Name        string        // the server's name in its certificate
}

// Result is what was seen. Quantiles are of the measured time only.
type Result struct {
	Answers  int            // whole and right, with those of the warm-up
	Measured int            // of them, in the measured time
	Seconds  float64        // measured time
	Broken   int            // wrong, cut or missing
	Errors   map[string]int // by kind
	Sample   string         // one of them
	Whole    Quantiles      // until the answer's last byte
	First    Quantiles      // until its first token
	CPU      float64        // seconds used by this process
}

// Quantiles of a time.
type Quantiles struct{ P50, P90, P99, Max time.Duration }

// loop is one run.
type loop struct {
	o        *Options
	tls      *tls.Config
	progress func(int)
	epoll    int
	timer    int
	conns    map[int32]*conn
	idle     []*conn
	due      []time.Duration // requests of the open loop that wait for a connection
	base     time.Time
	started  int
	next     time.Duration // when the next request of the open loop is due
	random   *rand.Rand
	flying   int
	buf      []byte
	result   Result
	whole    []time.Duration
	first    []time.Duration
	redials  int
}

// Run makes the load. An error means that it could not be made; wrong answers
// are counted instead.
func Run(o Options, progress func(answers int)) (Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Default timers may be 50 µs late (prctl(2), PR_SET_TIMERSLACK).
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	l := &loop{o: &o, progress: progress, conns: map[int32]*conn{}, buf: make([]byte, 64<<10), result: Result{Errors: map[string]int{}}}
	if err := l.open(); err != nil {
		return Result{}, err
	}
	defer l.close()
	if err := l.run(); err != nil {
		return Result{}, err
	}
	l.result.Whole, l.result.First = quantiles(l.whole), quantiles(l.first)
	l.result.CPU = used()
	return l.result, nil
}

func (l *loop) open() error {
	var err error
	if l.tls, err = clientTLS(l.o); err != nil {
		return err
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	if err := l.watch(l.timer); err != nil {
		return err
	}
	for range l.o.Connections {
		if err := l.add(); err != nil {
			return err
		}
	}
	return nil
}

// add opens another connection, which is idle at first.
func (l *loop) add() error {
	c, err := connect(l.o, l.tls)
	if err != nil {
		return err
	}
	l.conns[int32(c.fd)] = c
	l.idle = append(l.idle, c)
	return l.watch(c.fd)
}

func (l *loop) watch(fd int) error {
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *loop) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
	_ = unix.Close(l.timer)
	_ = unix.Close(l.epoll)
}

func (l *loop) now() time.Duration { return time.Since(l.base) }

// end is when no further request is due.
func (l *loop) end() time.Duration {
	if l.o.Duration == 0 {
		return 1<<63 - 1 - l.o.Grace
	}
	return l.o.Warm + l.o.Duration
}

func (l *loop) run() error {
	l.base = time.Now()
	if err := l.begin(); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 128)
	for end := l.end(); ; {
		n, err := unix.EpollWait(l.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		now := l.now()
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == l.timer {
				if err := l.tick(now); err != nil {
					return err
				}
			} else if c := l.conns[e.Fd]; c != nil {
				if err := l.ready(c); err != nil {
					return err
				}
			}
		}
		if over := now >= end || l.o.Count > 0 && l.started >= l.o.Count; over && l.flying == 0 && len(l.due) == 0 {
			break
		}
		if now > end+l.o.Grace {
			l.fault("no answer", "still waiting after the end", l.flying+len(l.due))
			break
		}
	}
	l.result.Seconds = min(l.now(), l.end()).Seconds() - l.o.Warm.Seconds()
	return nil
}

// begin sends the first requests, or starts the clock that will.
func (l *loop) begin() error {
	if l.o.Rate > 0 {
		l.random = rand.New(rand.NewPCG(1, 1))
		l.next = l.slot()
		return l.arm()
	}
	l.employ()
	return nil
}

// slot draws the moment of the next request.
func (l *loop) slot() time.Duration {
	return time.Duration((float64(l.started) + l.random.Float64()) / l.o.Rate * float64(time.Second))
}

// arm sets the timer to the next request, or lets it be when there is none.
func (l *loop) arm() error {
	if !l.more(l.next) {
		return nil
	}
	wait := max(l.next-l.now(), 1) // zero would disarm it
	return unix.TimerfdSettime(l.timer, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}, nil)
}

// employ gives every idle connection of the closed loop a request.
func (l *loop) employ() {
	for now := l.now(); len(l.idle) > 0 && l.more(now); {
		c := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		l.send(c, now)
	}
}

// more reports whether another request of the closed loop is due.
func (l *loop) more(now time.Duration) bool {
	return now < l.end() && (l.o.Count == 0 || l.started < l.o.Count)
}

// tick sends what has become due in the open loop.
func (l *loop) tick(now time.Duration) error {
	var expirations [8]byte
	_, _ = unix.Read(l.timer, expirations[:])
	for l.next <= now && l.more(l.next) {
		l.due = append(l.due, l.next)
		l.started++
		l.next = l.slot()
	}
	l.drain()
	return l.arm()
}

// drain puts requests that are due on idle connections, most recently used first.
func (l *loop) drain() {
	for len(l.due) > 0 && len(l.idle) > 0 {
		c := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		at := l.due[0]
		l.due = slices.Delete(l.due, 0, 1)
		l.write(c, at)
	}
}

// send starts a request of the closed loop.
func (l *loop) send(c *conn, now time.Duration) {
	l.started++
	l.write(c, now)
}

func (l *loop) write(c *conn, start time.Duration) {
	c.reset(l.o.Expect)
	c.start, c.first, c.busy = start, 0, true
	l.flying++
	_, _ = c.stream.Write(l.o.Request) // an error comes back from the next read
}

// ready reads what has come for c.
func (l *loop) ready(c *conn) error {
	for {
		n, err := c.stream.Read(l.buf)
		now := l.now()
		if n > 0 {
			if ferr := c.feed(l.buf[:n]); ferr != nil {
				return l.lost(c, ferr)
			}
			if c.first == 0 && c.pos >= l.o.First {
				c.first = now
			}
		}
		switch {
		case err == nil && c.state == complete && l.tls == nil:
			l.answered(c, now)
			return nil
		case errors.Is(err, errAgain):
			if c.state == complete && c.busy {
				l.answered(c, now)
			}
			return nil
		case errors.Is(err, io.EOF):
			return l.lost(c, &wrong{"closed early", fmt.Sprintf("after %d bytes of the body", c.pos)})
		case err != nil:
			return l.lost(c, &wrong{"connection failed", err.Error()})
		case l.tls == nil && n < len(l.buf):
			return nil
		}
	}
}

// answered counts a whole answer and sends the next request.
func (l *loop) answered(c *conn, now time.Duration) {
	c.busy = false
	l.flying--
	r := &l.result
	r.Answers++
	if at := l.moment(c, now); at >= l.o.Warm && at < l.end() {
		r.Measured++
		l.whole = append(l.whole, now-c.start)
		l.first = append(l.first, c.first-c.start)
	}
	if l.o.Every > 0 && r.Answers%l.o.Every == 0 && l.progress != nil {
		l.progress(r.Answers)
	}
	if l.o.Rate > 0 {
		l.idle = append(l.idle, c)
		l.drain()
		return
	}
	if l.more(now) {
		l.send(c, now)
	}
}

// moment decides whether a request is measured: in the closed loop by when it
// was answered, which makes a rate; in the open loop by when it was due, or
// slow answers at the end would be left out.
func (l *loop) moment(c *conn, now time.Duration) time.Duration {
	if l.o.Rate > 0 {
		return c.start
	}
	return now
}

// maxRedials ends a run against a server that refuses everything.
const maxRedials = 10_000

// lost counts a broken answer and replaces its connection.
func (l *loop) lost(c *conn, err error) error {
	var w *wrong
	if errors.As(err, &w) && (c.busy || w.kind == "bytes after the answer") {
		l.fault(w.kind, w.text, 1)
	}
	if c.busy {
		l.flying--
	}
	delete(l.conns, int32(c.fd))
	l.idle = slices.DeleteFunc(l.idle, func(i *conn) bool { return i == c })
	_ = c.Close()
	if l.redials++; l.redials > maxRedials {
		return fmt.Errorf("%d connections failed, the last one with: %w", l.redials, err)
	}
	if err := l.add(); err != nil {
		return err
	}
	if l.o.Rate > 0 {
		l.drain()
		return nil
	}
	l.employ()
	return nil
}

func (l *loop) fault(kind, text string, n int) {
	if n == 0 {
		return
	}
	l.result.Broken += n
	l.result.Errors[kind] += n
	if l.result.Sample == "" {
		l.result.Sample = kind + ": " + text
	}
}
