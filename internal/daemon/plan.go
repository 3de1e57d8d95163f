package daemon

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/plan"
)

// planWatchEvery is how often margins and registers are looked at.
const planWatchEvery = time.Minute

// makePlans makes the keeper of the continuity plan.
func (d *Daemon) makePlans(context.Context) error {
	d.plans = governance.New(governance.Options{
		DB: d.db, Guard: d.guard, Vault: d.vault, Clock: d.clock, Log: d.log, Measured: d.measuredForPlan,
		Alarm: func(ctx context.Context, tx pgx.Tx, code string, critical bool, facts map[string]string) error {
			severity := notify.Warning
			if critical {
				severity = notify.Critical
			}
			_, err := d.outbox.Alarm(ctx, tx, severity, code, uuid.Nil, facts)
			return err
		},
	})
	return nil
}

// measuredForPlan is what this platform has measured of what a plan speaks of:
// the rate and the replay of the last drill that passed, and for backups that
// the plan says this platform makes, the newest moment from which a restore
// was proven.
func (d *Daemon) measuredForPlan(ctx context.Context, p *plan.Plan) (m plan.Measured, err error) {
	if d.backups == nil || !d.backups.Configured() {
		return m, nil
	}
	known, err := d.backups.Measured(ctx)
	if err != nil {
		return m, err
	}
	m.RestoreRate, m.Replay = known.Rate, known.Replay
	if !known.Proven.IsZero() {
		m.NewestPoint = map[string]time.Time{}
		for _, b := range p.Backups {
			if b.MadeBy == "foundry" {
				m.NewestPoint[b.Name] = known.Proven
			}
		}
	}
	return m, nil
}
