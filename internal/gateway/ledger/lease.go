package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
)

const (
	leaseTick    = time.Second      // how often the loop looks
	leaseAhead   = time.Minute      // how long before a period begins it is leased
	reportEvery  = 10 * time.Second // how often spending is reported to the database
	leaseShare   = 8                // a lease is one part in eight of what is left
	leaseMinimum = 1000             // and at least one part in a thousand of the limit
)

func (b *Budgets) run(ctx context.Context) error {
	tick := time.NewTicker(leaseTick)
	defer tick.Stop()
	failing := false
	for {
		err := b.Lease(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				b.log.Warn("budget leases cannot be extended; what is leased may still be spent", "error", err)
			} else {
				b.log.Info("budget leases can be extended again")
			}
		}
		wake := b.wake
		if failing { // a refused request must not make it spin
			wake = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
		}
	}
}

// Refresh reads from the database which budgets exist, and leases what new
// ones need.
func (b *Budgets) Refresh(ctx context.Context) error {
	var list []Budget
	err := b.db.Read(ctx, func(tx pgx.Tx) (err error) {
		list, err = readBudgets(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the budgets: %w", err)
	}
	b.Load(list)
	return b.Lease(ctx)
}

// job is what one round does for one window.
type job struct {
	pot    *pot
	w      *window
	grant  bool
	settle int64 // settled so far, to be reported

	granted   int64 // results: more was leased,
	left      int64 // so much is left for others,
	spent     int64 // all have spent so much,
	elsewhere int64
	limit     int64
	gone      bool // the budget was removed
	raise     bool // this transaction recorded the alarm
}

// Lease runs one round: it leases where a lease runs low, reports what was
// spent and raises alarms. Run calls it; a caller that cannot wait for Run
// may, too.
func (b *Budgets) Lease(ctx context.Context) error {
	b.leasing.Lock()
	defer b.leasing.Unlock()
	defer b.endRound()
	now := b.o.Now()
	var errs []error
	for org, jobs := range b.jobs(now) {
		if err := b.db.Org(ctx, org, func(tx pgx.Tx) error { return b.lease(ctx, tx, jobs, now) }); err != nil {
			errs = append(errs, err)
			b.alarmAlone(jobs, now)
			continue
		}
		for _, j := range jobs {
			b.apply(j, now)
		}
	}
	return errors.Join(errs...)
}

func (b *Budgets) endRound() {
	next := make(chan struct{})
	close(*b.round.Swap(&next))
}

// jobs lists what has to be done, by organisation, in an order of budgets that
// is the same on every node: each locks its budgets in that order.
func (b *Budgets) jobs(now time.Time) map[uuid.UUID][]*job {
	b.mu.Lock()
	defer b.mu.Unlock()
	jobs := map[uuid.UUID][]*job{}
	for _, p := range b.defs {
		def := p.def.Load()
		w := p.at(now.UnixNano())
		add := func(w *window, grant bool) {
			jobs[def.Organisation] = append(jobs[def.Organisation], &job{pot: p, w: w, grant: grant, settle: w.settled.Load()})
		}
		if past := p.past.Load(); past != nil && past.settled.Load() != past.reported && past.due(now) {
			add(past, false)
		}
		balance := w.balance.Load()
		grant := w.left.Load() < 0 || balance < w.low.Load() || w.want.Load() > balance || w.limit != def.LimitNano
		// A budget that is spent everywhere is asked about again only now and then.
		grant = grant && (w.left.Load() != 0 || w.asked.Load() || w.due(now) || w.limit != def.LimitNano)
		if grant || w.unrecorded || w.settled.Load() != w.reported && (w.due(now) || w.crossed(def) && !w.alarmed) {
			add(w, grant)
		}
		if w.end-now.UnixNano() < int64(leaseAhead) && p.next.Load() == nil {
			next := newWindow(def.Period, time.Unix(0, w.end))
			p.next.Store(next)
			add(next, true)
		}
	}
	for _, list := range jobs {
		slices.SortFunc(list, func(x, y *job) int {
			return bytes.Compare(x.pot.def.Load().ID[:], y.pot.def.Load().ID[:])
		})
	}
	return jobs
}

// due says whether spending should be reported again; at once when the clock
// was set back.
func (w *window) due(now time.Time) bool {
	since := now.UnixNano() - w.reportedAt
	return since < 0 || since >= int64(reportEvery)
}

// crossed says whether spending, as far as this node knows, has passed the
// alarm line.
func (w *window) crossed(def *Budget) bool {
	return def.alarmed(saturatingAdd(w.elsewhere, w.settled.Load()))
}

func (d *Budget) alarmed(spent int64) bool {
	return d.LimitNano > 0 && float64(spent) >= float64(d.LimitNano)/100*float64(d.AlarmPercent)
}

func (b *Budgets) lease(ctx context.Context, tx pgx.Tx, jobs []*job, now time.Time) error {
	for _, j := range jobs {
		if err := b.leaseOne(ctx, tx, j, now); err != nil {
			return fmt.Errorf("leasing of budget %s: %w", j.pot.def.Load().ID, err)
		}
	}
	return nil
}

func (b *Budgets) leaseOne(ctx context.Context, tx pgx.Tx, j *job, now time.Time) error {
	def, w := j.pot.def.Load(), j.w
	start := time.Unix(0, w.start).UTC()
	// The lock makes grants of one budget follow one another, on all nodes.
	err := tx.QueryRow(ctx, `SELECT limit_nano FROM budgets WHERE id = $1 FOR UPDATE`, def.ID).Scan(&j.limit)
	if errors.Is(err, pgx.ErrNoRows) {
		j.gone = true
		return nil
	}
	if err != nil {
		return err
	}
	var committed, spent int64
	err = tx.QueryRow(ctx, `SELECT COALESCE(sum(granted_nano), 0)::bigint, COALESCE(sum(spent_nano), 0)::bigint
		FROM budget_leases WHERE budget_id = $1 AND period_start = $2`, def.ID, start).Scan(&committed, &spent)
	if err != nil {
		return err
	}
	j.left = j.limit - committed
	switch {
	case j.left < 0: // the limit was lowered: give back what is not reserved
		j.granted = -w.drain(-j.left)
	case j.grant:
		j.granted = w.chunk(j.left, j.limit)
	}
	j.left -= j.granted
	report := j.settle - w.reported
	j.spent = saturatingAdd(spent, report)
	j.elsewhere = saturatingAdd(j.spent, -j.settle)
	if j.granted != 0 || report != 0 {
		_, err = tx.Exec(ctx, `INSERT INTO budget_leases AS l (budget_id, period_start, node, boot, organisation_id, granted_nano, spent_nano)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (budget_id, period_start, node, boot) DO UPDATE SET
				granted_nano = GREATEST(l.granted_nano + excluded.granted_nano, l.spent_nano + excluded.spent_nano), -- never less than was spent: another gateway may have given the lease back
				spent_nano = l.spent_nano + excluded.spent_nano, closed_at = NULL`,
			def.ID, start, int64(b.o.Node), int64(b.o.Boot), def.Organisation, j.granted, report)
		if err != nil {
			return err
		}
	}
	if !def.alarmed(j.spent) || w.alarmed && !w.unrecorded {
		return nil
	}
	return b.recordAlarm(ctx, tx, j, start, now)
}

func (b *Budgets) recordAlarm(ctx context.Context, tx pgx.Tx, j *job, start, now time.Time) error {
	def := j.pot.def.Load()
	tag, err := tx.Exec(ctx, `INSERT INTO budget_alarms (budget_id, period_start, organisation_id, node, spent_nano, raised_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, def.ID, start, def.Organisation, int64(b.o.Node), j.spent, now)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	j.raise = true
	return audit.Append(ctx, tx, principal.Node("budgets"), def.Organisation, "budget.alarm", def.ID.String(), map[string]any{
		"period": def.Period, "period_start": start, "limit_nano": def.LimitNano, "spent_nano": j.spent, "currency": def.Currency,
	})
}

// chunk says how much more to lease of what is left: a share, so that other
// nodes find something too and little is stranded near the end, but as much
// as was asked for if there is that much.
func (w *window) chunk(left, limit int64) int64 {
	balance := w.balance.Load()
	goal := max(left/leaseShare, limit/leaseMinimum, w.want.Load())
	if balance >= goal {
		return 0
	}
	return max(min(goal-balance, left), 0)
}

// drain takes up to n from the balance for good, and returns how much.
func (w *window) drain(n int64) int64 {
	for {
		balance := w.balance.Load()
		taken := min(max(balance, 0), n)
		if w.balance.CompareAndSwap(balance, balance-taken) {
			return taken
		}
	}
}

// apply takes over what a committed round did. What drain took was taken
// before: if the transaction had failed, the lease would only be smaller.
func (b *Budgets) apply(j *job, now time.Time) {
	w := j.w
	if j.gone {
		w.left.Store(0)
		return
	}
	if j.granted > 0 {
		w.balance.Add(j.granted)
	}
	w.left.Store(max(j.left, 0))
	w.reported, w.elsewhere, w.reportedAt, w.limit = j.settle, j.elsewhere, now.UnixNano(), j.limit
	if j.grant {
		w.want.Store(0)
		w.low.Store(max(w.balance.Load(), 0) / 2)
		w.asked.Store(false)
	}
	def := j.pot.def.Load()
	if def.alarmed(j.spent) {
		if j.raise && !w.alarmed {
			b.alarm(j.pot, w, j.spent, now)
		}
		w.alarmed, w.unrecorded = true, false
	}
}

// alarmAlone raises alarms while the database is away. They are recorded when
// it returns.
func (b *Budgets) alarmAlone(jobs []*job, now time.Time) {
	for _, j := range jobs {
		if j.w.crossed(j.pot.def.Load()) && !j.w.alarmed {
			j.w.alarmed, j.w.unrecorded = true, true
			b.alarm(j.pot, j.w, saturatingAdd(j.w.elsewhere, j.w.settled.Load()), now)
		}
		j.w.asked.Store(false)
	}
}

func (b *Budgets) alarm(p *pot, w *window, spent int64, now time.Time) {
	def := *p.def.Load()
	b.log.Warn("a budget has passed its alarm line", "budget", def.ID, "organisation", def.Organisation, "period", def.Period,
		"limit_nano", def.LimitNano, "spent_nano", spent, "currency", def.Currency)
	if b.o.Alarm != nil {
		b.o.Alarm(Alarm{Budget: def, PeriodStart: time.Unix(0, w.start).UTC(), SpentNano: spent, At: now})
	}
}

// Close gives back what this boot leased and has not reserved. Nothing that
// costs money is admitted afterwards.
func (b *Budgets) Close(ctx context.Context) error {
	b.leasing.Lock()
	defer b.leasing.Unlock()
	b.loaded.Store(false)
	b.mu.Lock()
	byOrg := map[uuid.UUID][]*pot{}
	for _, p := range b.defs {
		org := p.def.Load().Organisation
		byOrg[org] = append(byOrg[org], p)
	}
	b.mu.Unlock()
	var errs []error
	for org, pots := range byOrg {
		errs = append(errs, b.db.Org(ctx, org, func(tx pgx.Tx) error {
			for _, p := range pots {
				for _, w := range [...]*window{p.past.Load(), p.current.Load(), p.next.Load()} {
					if w == nil {
						continue
					}
					returned, settled := w.drain(1<<62), w.settled.Load()
					_, err := tx.Exec(ctx, `UPDATE budget_leases SET granted_nano = GREATEST(granted_nano - $5, spent_nano + $6), spent_nano = spent_nano + $6
						WHERE budget_id = $1 AND period_start = $2 AND node = $3 AND boot = $4`,
						p.def.Load().ID, time.Unix(0, w.start).UTC(), int64(b.o.Node), int64(b.o.Boot), returned, settled-w.reported)
					if err != nil {
						return err
					}
					w.reported = settled
				}
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}
