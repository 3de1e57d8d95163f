package access

import (
	"context"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

// Guard decides whether somebody may do something, and audits every denial.
// Safe for concurrent use.
type Guard struct {
	engine *policy.Engine
	db     *db.DB
	clock  func() time.Time
	mode   string
}

// NewGuard makes a guard. mode is development or production.
func NewGuard(e *policy.Engine, d *db.DB, clock func() time.Time, mode string) *Guard {
	return &Guard{engine: e, db: d, clock: clock, mode: mode}
}

// Authorise returns nil when the policies allow it, and otherwise a
// *problem.Error that says which policy denied it and which role would do.
func (g *Guard) Authorise(ctx context.Context, p principal.Principal, action policy.Action, r policy.Resource) error {
	return authorise(ctx, g.db, p, r.Organisation, string(action), r.ID)
}
