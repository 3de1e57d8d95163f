package probe

import (
	"context"
	"log/slog"
)

// RunnerOptions are how a Runner looks.
type RunnerOptions struct {
	Env      Env
	Tell     func(Result) // told of every outcome, from many goroutines at once; must not block
	History  *History     // may be nil
	Parallel int          // looks at once; 64 when zero
	Log      *slog.Logger // may be nil
}

// Runner looks at many targets, each at its period, without a storm after
// starts, wake-ups or jumps of the clock, and without one slow target keeping
// others waiting.
type Runner struct{ o RunnerOptions }

// NewRunner makes a runner that watches nothing yet.
func NewRunner(o RunnerOptions) *Runner { return &Runner{o: o} }

// Set replaces what is watched. Targets that stay keep their place in time.
// It fails, and changes nothing, where two specs have one name or a target
// cannot be read.
func (r *Runner) Set(specs []Spec) error { return nil }

// Run watches until ctx is done, and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Look looks at one of the watched targets now, and tells of it as usual.
func (r *Runner) Look(ctx context.Context, name string) (Result, error) { return Result{}, nil }

// Latest is the last outcome of each target that was looked at, by name.
func (r *Runner) Latest() map[string]Result { return nil }
