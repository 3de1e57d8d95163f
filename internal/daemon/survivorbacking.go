package daemon

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/problem"
)

// How often, and for how long, this node looks at the backups that it would take
// over from. A look lists one repository: it is made rarely where all is well,
// one at a time, and again soon where nothing could be restored.
const (
	backingEvery    = 30 * time.Minute
	backingAgain    = 15 * time.Second // doubled each time
	backingPatience = 2 * time.Minute
	backingTurn     = 5 * time.Second // how soon it is seen that somebody left something else
)

// backings are what this node found of the backups of others.
type backings struct {
	mu sync.Mutex
	of map[string]*backing
}

type backing struct {
	found  survivor.Backing
	failed int // times in a row
}

// due says whether what was found with a bundle is to be looked at again.
func (b *backing) due(digest string, now time.Time) bool {
	switch {
	case b == nil || b.found.Of != digest:
		return true
	case b.failed > 0:
		return now.Sub(b.found.At) >= min(backingAgain<<min(b.failed-1, 8), backingEvery)
	}
	return now.Sub(b.found.At) >= backingEvery
}

func (b *backings) found() map[string]survivor.Backing {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]survivor.Backing{}
	for from, one := range b.of {
		out[from] = one.found
	}
	return out
}

// note keeps what was found, and forgets what is not held any more. It says
// whether the fleet has to be told.
func (b *backings) note(from string, found survivor.Backing) (tell bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[string]*backing{}
	}
	before := b.of[from]
	next := &backing{found: found}
	if found.Error != "" {
		next.failed = 1
		if before != nil && before.found.Of == found.Of {
			next.failed += before.failed
		}
	}
	b.of[from] = next
	return before == nil || before.found.Of != found.Of || before.found.Error != found.Error || found.Error == ""
}

// keep forgets what is not held any more, and says what is to be looked at.
func (b *backings) keep(held map[string]string, now time.Time) (due []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.of, func(from string, _ *backing) bool { _, is := held[from]; return !is })
	for from, digest := range held {
		if b.of[from].due(digest, now) {
			due = append(due, from)
		}
	}
	slices.Sort(due)
	return due
}

// lookAtBackings finds out, again and again, whether what others left for this
// node has backups behind it that can be restored here.
func (d *Daemon) lookAtBackings(ctx context.Context) {
	repeat(ctx, backingTurn, nil, "the backups of nodes that this one would take over from were not looked at", func(ctx context.Context) error {
		held, err := d.custody.Holds(ctx)
		if err != nil {
			return err
		}
		for _, from := range d.backings.keep(held, d.clock()) {
			found := d.lookAtBacking(ctx, from)
			if ctx.Err() != nil {
				return nil
			}
			if d.backings.note(from, found) {
				kick(d.left)
			}
		}
		return nil
	}, d)
}

// lookAtBacking does what a take-over does until it would change something.
func (d *Daemon) lookAtBacking(ctx context.Context, from string) survivor.Backing {
	ctx, cancel := context.WithTimeout(ctx, backingPatience)
	defer cancel()
	now := d.clock().UTC()
	held, err := d.custody.Take(ctx, from)
	if err != nil {
		return survivor.Backing{At: now, Error: problem.From(err).Detail}
	}
	b := backingOf(ctx, held, taking{by: "node", version: d.version, host: hostHere(d.config)}, d.config.DataDir)
	b.At = now
	return b
}

// backingOf finds the backup that a take-over would restore.
func backingOf(ctx context.Context, held survivor.Held, who taking, dataDir string) survivor.Backing {
	b := survivor.Backing{Of: held.Digest, Noted: held.Noted.UTC()}
	who.log = slog.New(slog.DiscardHandler)
	r, err := takeOver(ctx, held, nil, who, TakeOverOptions{From: held.From, DryRun: true, DataDir: filepath.Join(dataDir, "takeover", "none")})
	switch {
	case err == nil:
		b.Target, b.Label, b.Stopped, b.Reaches = r.Target, r.Point.Label, r.Point.Stopped.UTC(), r.Reaches.UTC()
		for _, n := range r.Notes {
			if strings.HasPrefix(n, "The target ") {
				b.Skipped = append(b.Skipped, n)
			}
		}
	case problem.From(err).Code == "kit-external":
		b.External = true
	case ctx.Err() != nil:
		b.Error = "the targets did not answer within " + backingPatience.String()
	default:
		b.Error = problem.From(err).Detail
	}
	return b
}
