package probe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Bounds of a Runner.
const (
	defaultParallel = 64
	// apart is the least time between two looks at one address: no more than
	// ten a second, retries included, whatever is configured.
	apart = 100 * time.Millisecond
)

// RunnerOptions are how a Runner looks.
type RunnerOptions struct {
	Env      Env
	Tell     func(Result) // told of every outcome, from many goroutines at once; must not block
	History  *History     // may be nil
	Parallel int          // looks at once; 64 when zero
	Log      *slog.Logger // may be nil

	run func(context.Context, Spec, Env) Result // Run, but in tests
}

// Runner looks at many targets, each at its period, without a storm after
// starts, wake-ups or jumps of the clock, and without one slow target keeping
// others waiting.
type Runner struct {
	o     RunnerOptions
	slots chan struct{}
	woken chan struct{}

	mu       sync.Mutex
	schedule *schedule
	watched  map[string]*watched
	lanes    map[string]*lane
}

// watched is one target.
type watched struct {
	spec   Spec
	busy   sync.Mutex // one look at a time
	queued bool       // under Runner.mu: waits or looks
	last   *Result    // under Runner.mu
}

// lane is an address. Looks at it come one after the other and some time
// apart, and wait here, where they keep nobody else from looking elsewhere.
type lane struct {
	turn  chan struct{}
	users int // under Runner.mu
	mu    sync.Mutex
	next  time.Time
}

// NewRunner makes a runner that watches nothing yet.
func NewRunner(o RunnerOptions) *Runner {
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.run == nil {
		o.run = Run
	}
	return &Runner{o: o, slots: make(chan struct{}, o.Parallel), woken: make(chan struct{}, 1),
		schedule: newSchedule(nil), watched: map[string]*watched{}, lanes: map[string]*lane{}}
}

// Set replaces what is watched. Targets that stay keep their place in time. It
// fails, and changes nothing, where a spec has no name or two have one. A
// target that cannot be read is watched, and its results say so.
func (r *Runner) Set(specs []Spec) error {
	wanted := make(map[string]Spec, len(specs))
	for _, s := range specs {
		if _, twice := wanted[s.Name]; twice || s.Name == "" {
			return problem.New(problem.Invalid, "probe-name", fmt.Sprintf("Each probe needs a name of its own; %q is there twice, or empty.", clean(s.Name, 80))).WithField("probes")
		}
		wanted[s.Name] = s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, w := range r.watched {
		if s, stays := wanted[name]; !stays || s != w.spec {
			r.schedule.remove(name)
			delete(r.watched, name)
		}
	}
	maps.DeleteFunc(r.lanes, func(_ string, ln *lane) bool { return ln.users == 0 })
	now := time.Now()
	for name, s := range wanted {
		if r.watched[name] == nil {
			r.watched[name] = &watched{spec: s}
			r.schedule.set(name, s.every(), now)
		}
	}
	select {
	case r.woken <- struct{}{}:
	default:
	}
	return nil
}

func (s Spec) every() time.Duration {
	if s.Every <= 0 {
		return DefaultEvery
	}
	return max(s.Every, time.Second)
}

func (s Spec) timeout() time.Duration {
	if s.Timeout <= 0 {
		return DefaultTimeout(s.Kind)
	}
	return s.Timeout
}

// valid is how long a result says something: until the next one and the one
// after that should have come.
func (s Spec) valid() time.Duration { return 2*s.every() + s.timeout() + 10*time.Second }

// Run watches until ctx is done, and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context) error {
	var looks sync.WaitGroup
	defer looks.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.woken:
		}
		names, next := r.take()
		for _, w := range names {
			looks.Go(func() { r.scheduled(ctx, w) })
		}
		wait := time.Minute
		if !next.IsZero() {
			wait = min(max(time.Until(next), 0), wait)
		}
		timer.Reset(wait)
	}
}

// take returns what is due and is not being looked at already.
func (r *Runner) take() (out []*watched, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	names, next := r.schedule.take(time.Now())
	for _, name := range names {
		if w := r.watched[name]; w != nil && !w.queued {
			w.queued = true
			out = append(out, w)
		}
	}
	return out, next
}

func (r *Runner) scheduled(ctx context.Context, w *watched) {
	_, _ = r.look(ctx, w)
	r.mu.Lock()
	w.queued = false
	r.mu.Unlock()
}

// Look looks at one of the watched targets now, and tells of it as usual.
func (r *Runner) Look(ctx context.Context, name string) (Result, error) {
	r.mu.Lock()
	w := r.watched[name]
	r.mu.Unlock()
	if w == nil {
		return Result{}, problem.New(problem.NotFound, "probe-unknown", fmt.Sprintf("This node watches nothing by the name %q.", clean(name, 80)))
	}
	return r.look(ctx, w)
}

// look waits for the target's turn, then for a place, and looks.
func (r *Runner) look(ctx context.Context, w *watched) (Result, error) {
	w.busy.Lock()
	defer w.busy.Unlock()
	ln := r.enter(w.spec.lane())
	defer r.leave(ln)
	select {
	case ln.turn <- struct{}{}:
		defer func() { <-ln.turn }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
	result := r.trial(ctx, w.spec, ln)
	if ctx.Err() != nil {
		return result, ctx.Err() // what was broken off is not told
	}
	r.mu.Lock()
	current := r.watched[w.spec.Name] == w
	if current {
		w.last = &result
	}
	r.mu.Unlock()
	if !current {
		return result, nil // not watched any more
	}
	if result.Code == BadTarget {
		r.o.Log.Warn("a target cannot be read", "probe", w.spec.Name, "kind", string(w.spec.Kind))
	}
	if r.o.History != nil {
		r.o.History.Add(result, w.spec.valid())
	}
	if r.o.Tell != nil {
		r.o.Tell(result.Clone())
	}
	return result, nil
}

// lane is what a target shares with others: the address that it asks.
func (s Spec) lane() string {
	t, err := Parse(s.Kind, s.Target)
	switch {
	case err != nil:
		return "target " + s.Target
	case t.Host != "":
		return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	}
	return string(s.Kind) + " " + t.Rest
}

func (r *Runner) enter(at string) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	ln := r.lanes[at]
	if ln == nil {
		ln = &lane{turn: make(chan struct{}, 1)}
		r.lanes[at] = ln
	}
	ln.users++
	return ln
}

func (r *Runner) leave(ln *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ln.users--
}

// pace waits until the address may be asked again.
func (ln *lane) pace(ctx context.Context) {
	ln.mu.Lock()
	now := time.Now()
	at := ln.next
	if at.Before(now) || at.Sub(now) > time.Minute {
		at = now
	}
	ln.next = at.Add(apart)
	ln.mu.Unlock()
	if wait := at.Sub(now); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// Latest is the last outcome of each target that was looked at, by name.
func (r *Runner) Latest() map[string]Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]Result, len(r.watched))
	for name, w := range r.watched {
		if w.last != nil {
			out[name] = w.last.Clone()
		}
	}
	return out
}

// Watched is what is watched now, by name.
func (r *Runner) Watched() map[string]Spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]Spec{}
	for name, w := range r.watched {
		out[name] = w.spec
	}
	return out
}
