package probe

import (
	"context"
	"time"
)

// A failure is told only after two more looks, and then soon: within three
// seconds of the first look's beginning, or, where one look alone may take
// longer, within three seconds of its end.
const (
	suspicion = 3 * time.Second
	tries     = 3
	hedge     = time.Second            // without an answer by then, the next look begins beside this one
	breather  = 200 * time.Millisecond // after a failure, before the next look
)

// trial is one outcome: a good look, or a failure that was seen three times.
func (r *Runner) trial(ctx context.Context, s Spec, ln *lane) Result {
	g := grammarOf(s.Kind)
	if g == nil || g.local {
		ln.pace(ctx)
		return r.o.run(ctx, s, r.o.Env)
	}
	if g.patience || s.timeout() > suspicion {
		return r.inTurn(ctx, s, ln)
	}
	return r.sideBySide(ctx, s, ln)
}

// inTurn looks again after a failure.
func (r *Runner) inTurn(ctx context.Context, s Spec, ln *lane) Result {
	ln.pace(ctx)
	first := r.o.run(ctx, s, r.o.Env)
	last, until := first, time.Now().Add(suspicion)
	for n := 1; n < tries && !last.OK && !last.Inconclusive && ctx.Err() == nil; n++ {
		again := s
		if again.Timeout = min(s.timeout(), (time.Until(until)-breather)/time.Duration(tries-n)); again.Timeout < breather {
			break // a look that has no time would say nothing but that
		}
		select {
		case <-time.After(breather):
		case <-ctx.Done():
			return last
		}
		ln.pace(ctx)
		next := r.o.run(ctx, again, r.o.Env)
		next.At, next.Tries = first.At, n+1
		if next.Inconclusive || next.Code == Timeout && again.Timeout < s.timeout() {
			last.Tries = n + 1 // less time than usual: says no more than the look before
			continue
		}
		last = next
	}
	return last
}

// sideBySide begins the next look when one failed, or has not answered for a
// while; the first good one counts.
func (r *Runner) sideBySide(ctx context.Context, s Spec, ln *lane) Result {
	limited, cancel := context.WithTimeout(ctx, suspicion)
	results := make(chan Result, tries)
	began, running, started := time.Time{}, 0, 0
	defer func() { // ends the looks whose outcome nobody needs any more
		for cancel(); running > 0; running-- {
			<-results
		}
	}()
	start := func() {
		started, running = started+1, running+1
		go func() { ln.pace(limited); results <- r.o.run(limited, s, r.o.Env) }()
	}
	start()
	next := time.NewTimer(hedge)
	defer next.Stop()
	var last Result
	for {
		select {
		case <-next.C:
			if started < tries {
				start()
				next.Reset(hedge)
			}
		case got := <-results:
			running--
			if began.IsZero() || got.At.Before(began) {
				began = got.At
			}
			if got.At, got.Tries = began, started; got.OK || got.Inconclusive {
				return got
			}
			last = got
			if running == 0 && (started == tries || limited.Err() != nil) {
				return last
			}
			if started < tries {
				next.Reset(breather)
			}
		}
	}
}
