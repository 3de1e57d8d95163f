package recovery

import (
	"context"
	"log/slog"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
)

// Executor carries the runs out while this process leads the fleet.
type Executor struct {
	Store *member.Store
	Book  *incident.Book
	Node  string
	Plan  func() *plan.Plan // in force; may return nil
	Doers map[string]Doer   // by kind of step
	Clock func() time.Time  // with a monotonic part, as time.Now gives it
	Log   *slog.Logger
}

// Lead carries the runs out until the term or ctx ends.
func (e *Executor) Lead(ctx context.Context, term *member.Term) error {
	<-ctx.Done()
	return nil
}
