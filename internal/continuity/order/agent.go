package order

import (
	"context"
	"log/slog"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
)

// Agent carries out the orders to this node.
type Agent struct {
	Store *member.Store
	Node  string
	Dir   string // where it remembers what it has done; of its own
	Kinds map[string]Carry
	// Again names the kinds that are begun again after this process stopped
	// while it was at one.
	Again map[string]bool
	// Plan says by which plan a run goes: the hash of it.
	Plan  func(ctx context.Context, run string) (hash string, err error)
	Clock func() time.Time
	Log   *slog.Logger
}

// Run carries orders out until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
