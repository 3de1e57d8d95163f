package backup

import (
	"context"
	"sync"

	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/notify"
)

// removals are the copies of drills that are being removed, which on a large
// file system takes seconds that nobody waits for: what the drill found stands
// by then. What a process does not remove, the next start does.
type removals struct {
	remove func(ctx context.Context, p *scratch.Place) error
	one    sync.Mutex // held by whoever removes: a sweep would take the place from under a removal

	mu    sync.Mutex
	going map[*scratch.Place]chan struct{}
}

func newRemovals() *removals {
	return &removals{going: map[*scratch.Place]chan struct{}{}, remove: func(ctx context.Context, p *scratch.Place) error { return p.Remove(ctx) }}
}

// clear removes a copy beside everything else, and tells people when it cannot:
// a disk that fills with copies ends the live database.
func (b *Backups) clear(place *scratch.Place) {
	gone := make(chan struct{})
	b.removals.mu.Lock()
	b.removals.going[place] = gone
	b.removals.mu.Unlock()
	b.o.Background(func() {
		defer func() {
			b.removals.mu.Lock()
			delete(b.removals.going, place)
			b.removals.mu.Unlock()
			close(gone)
		}()
		b.removals.one.Lock()
		defer b.removals.one.Unlock()
		if err := b.removals.remove(context.WithoutCancel(b.life), place); err != nil {
			b.o.Log.Warn("a restored copy was not removed; the next drill or start tries again", "dir", place.Dir, "error", err)
			b.alarm(notify.Warning, "drill-copy-left", "", map[string]string{"dir": place.Dir, "reason": detail(err), "next": "foundry backup drill"})
		}
	})
}

// cleared waits until the copies of earlier drills are gone, whose room the
// next one may need, and tries those again that could not be removed.
func (b *Backups) cleared(ctx context.Context) error {
	b.removals.mu.Lock()
	var going []chan struct{}
	for _, gone := range b.removals.going {
		going = append(going, gone)
	}
	b.removals.mu.Unlock()
	for _, gone := range going {
		select {
		case <-gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	b.sweep(ctx)
	return nil
}

// sweep removes the copies that nobody works on.
func (b *Backups) sweep(ctx context.Context) {
	b.removals.one.Lock()
	defer b.removals.one.Unlock()
	if _, err := scratch.Sweep(ctx, b.o.Scratch, b.o.Log); err != nil {
		b.o.Log.Warn("restored copies that were left were not removed", "error", err)
	}
}
