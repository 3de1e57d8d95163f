package backup

import (
	"context"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Backups makes, keeps, proves and expires backups. Safe for concurrent use.
// Every method that takes a principal authorises it.
type Backups struct{}

var errNotBuilt = problem.New(problem.Unsupported, "backup-unbuilt", "Backups are not built in yet.")

// Run keeps the schedule until ctx ends.
func (b *Backups) Run(ctx context.Context) error { return errNotBuilt }

// Start makes backups in the background.
func (b *Backups) Start(ctx context.Context, p principal.Principal, in Request) (Job, error) {
	return Job{}, errNotBuilt
}

// StartDrill restores apart, proves what was restored and throws it away.
func (b *Backups) StartDrill(ctx context.Context, p principal.Principal, in DrillRequest) (Job, error) {
	return Job{}, errNotBuilt
}

// StartVerify has the engines check their repositories, and checks itself that
// the archive of the log has no gap. Both together prove less than a drill.
func (b *Backups) StartVerify(ctx context.Context, p principal.Principal, in TargetRequest) (Job, error) {
	return Job{}, errNotBuilt
}

// StartExpire removes what is older than the retention, and what nothing holds.
func (b *Backups) StartExpire(ctx context.Context, p principal.Principal, in TargetRequest) (Job, error) {
	return Job{}, errNotBuilt
}

// Hold keeps points from being expired.
func (b *Backups) Hold(ctx context.Context, p principal.Principal, in NewHold) (Hold, error) {
	return Hold{}, errNotBuilt
}

// Release ends a hold.
func (b *Backups) Release(ctx context.Context, p principal.Principal, hold uuid.UUID, reason string) (Hold, error) {
	return Hold{}, errNotBuilt
}

// Status says what could be recovered now, and what would be lost.
func (b *Backups) Status(ctx context.Context, p principal.Principal) (Status, error) {
	return Status{}, errNotBuilt
}

// Calendar describes the last days, the oldest first.
func (b *Backups) Calendar(ctx context.Context, p principal.Principal, days int) ([]Day, error) {
	return nil, errNotBuilt
}

// Jobs lists what was done, the newest first.
func (b *Backups) Jobs(ctx context.Context, p principal.Principal, f Filter) ([]Job, error) {
	return nil, errNotBuilt
}

// Job says how far something has come.
func (b *Backups) Job(ctx context.Context, p principal.Principal, id uuid.UUID) (Job, error) {
	return Job{}, errNotBuilt
}

// Points lists what could be restored.
func (b *Backups) Points(ctx context.Context, p principal.Principal, f Filter) ([]Point, error) {
	return nil, errNotBuilt
}

// Point shows one point.
func (b *Backups) Point(ctx context.Context, p principal.Principal, target, label string) (Point, error) {
	return Point{}, errNotBuilt
}

// Drills lists drills.
func (b *Backups) Drills(ctx context.Context, p principal.Principal, f Filter) ([]Drill, error) {
	return nil, errNotBuilt
}

// Drill shows one drill.
func (b *Backups) Drill(ctx context.Context, p principal.Principal, id uuid.UUID) (Drill, error) {
	return Drill{}, errNotBuilt
}

// Holds lists holds, the newest first, those that were released last.
func (b *Backups) Holds(ctx context.Context, p principal.Principal) ([]Hold, error) {
	return nil, errNotBuilt
}

// Targets says how the places of backups are.
func (b *Backups) Targets(ctx context.Context, p principal.Principal) ([]TargetStatus, error) {
	return nil, errNotBuilt
}
