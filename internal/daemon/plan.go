package daemon

import (
	"context"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
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
		Accounts: d.people.Named, Here: d.hereForPlan, Reviewed: d.accessReviewed, InForce: d.planInForce, Exercises: d.heldExercises, Actions: d.openActions,
		Copy: filepath.Join(d.config.DataDir, "plan.sealed"), Seal: d.keyring.Seal, Open: d.keyring.Open,
	})
	return nil
}

// hereForPlan is what this node's configuration says of itself.
func (d *Daemon) hereForPlan() governance.Here {
	h := governance.Here{Country: d.config.Node.Country, Assumed: d.config.Node.Assumed, Supplier: d.config.Node.Supplier}
	for _, t := range d.targets {
		h.Targets = append(h.Targets, governance.HereTarget{Name: t.Name, Supplier: t.Supplier, Country: t.Country})
	}
	return h
}

// accessReviewed is when a review of access to the platform was last
// completed, and since when there is something to review.
func (d *Daemon) accessReviewed(ctx context.Context) (last *time.Time, began time.Time, err error) {
	s, err := d.register.Standing(ctx)
	if err != nil {
		return nil, began, err
	}
	now := d.clock()
	if s.Reviewed >= 0 {
		at := now.Add(-s.Reviewed)
		last = &at
	}
	return last, now.Add(-max(0, s.Began)), nil
}

// planInForce runs the controls that a plan answers: what was observed of the
// plan before says nothing of this one.
func (d *Daemon) planInForce() {
	kick(d.tell)
	d.running.Go(func() {
		if err := d.controls.RunNow(d.life, principal.Node("continuity-plan"), governance.Controls(), nil); err != nil && d.life.Err() == nil {
			d.log.Warn("the controls of the plan were not run; they are when they are due", "error", err)
		}
	})
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
