package governance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/plan"
)

// Watch reminds of what lapses, calls the deputy of whoever misses a check-in,
// and says when a function comes near to breaking its objectives, until ctx
// ends.
func (g *Plans) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := g.Look(ctx); err != nil && ctx.Err() == nil {
			g.o.Log.Warn("the plan's registers were not looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Look is one round of Watch.
func (g *Plans) Look(ctx context.Context) error {
	_, read, err := g.stored(ctx)
	if isNone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	now := g.o.Clock()
	return errors.Join(g.keepCopy(ctx), g.margins(ctx, read, now), g.remind(ctx, read, now))
}

// near and broken are the shares of an objective from which a function is said
// to come near to breaking it, and to break it; calm is where it is well again,
// lower so that a function on the edge does not alarm again and again.
const (
	calm   = 0.7
	near   = 0.8
	broken = 1.0
)

func (g *Plans) margins(ctx context.Context, read *plan.Plan, now time.Time) error {
	for _, m := range read.Margins(g.measured(ctx, read), now) {
		level := 0
		switch share := m.Worst(); {
		case share > broken:
			level = 2
		case share >= near:
			level = 1
		case share >= calm:
			level = -1 // as it was
		}
		g.mu.Lock()
		was := g.told[m.Function]
		g.mu.Unlock()
		if level > was {
			err := g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
				return g.alarm(ctx, tx, "plan.margin."+alarmName(m.Function), level == 2, map[string]string{"function": m.Function, "says": SaysOfMargin(&m)})
			})
			if err != nil {
				return err // and it is said in the next round
			}
		}
		if level >= 0 {
			g.mu.Lock()
			g.told[m.Function] = level
			g.mu.Unlock()
		}
	}
	return nil
}

// alarmName makes the name of a thing fit to be a part of an alarm's code
// (letters, digits, dots and dashes), and no two names one.
func alarmName(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, name)
	if plain == name && len(name) <= 40 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return plain[:min(len(plain), 31)] + "-" + hex.EncodeToString(sum[:4])
}

// SaysOfMargin says in one sentence which objective is nearest to breaking.
func SaysOfMargin(m *plan.Margin) string {
	name, c := "recovery point", m.RPO
	if m.RTO.Share > c.Share {
		name, c = "recovery time", m.RTO
	}
	if m.MTD.Share > c.Share {
		name, c = "maximum tolerable downtime", m.MTD
	}
	switch {
	case c.Bound == 0:
		return "Nothing can be said of its objectives."
	case c.Left < 0:
		return fmt.Sprintf("If it failed now, %s would be %s; its %s objective is %s.", what(name), plan.FormatDuration(c.Expected.Round(time.Second)), name, plan.FormatDuration(c.Bound))
	}
	return fmt.Sprintf("If it failed now, %s would be %s of at most %s: %s are left.", what(name), plan.FormatDuration(c.Expected.Round(time.Second)), plan.FormatDuration(c.Bound), plan.FormatDuration(c.Left.Round(time.Second)))
}

func what(objective string) string {
	if objective == "recovery point" {
		return "the loss of data"
	}
	return "the time to its return"
}

func (g *Plans) remind(ctx context.Context, read *plan.Plan, now time.Time) error {
	all, err := g.register(ctx, read, now)
	if err != nil {
		return err
	}
	for i := range all {
		d := &all[i]
		if d.State != Soon && d.State != Lapsed {
			continue
		}
		stage, call := d.State, ""
		if d.Kind == "check-in" && d.State == Lapsed {
			stage, call = whomToCall(read, d, now)
		}
		err := g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
			fresh, err := insertReminder(ctx, tx, d.Key, d.Due, stage)
			if err != nil || !fresh {
				return err
			}
			title := d.Title
			if d.Kind == kindAction {
				title = d.Key // what people wrote of a gap does not belong into the audit log
			}
			facts := map[string]string{"entry": title, "state": d.State, "due": d.Due.UTC().Format(time.DateOnly)}
			if call != "" {
				facts["call"] = call
			}
			return g.alarm(ctx, tx, "plan.register."+alarmName(d.Key), call != "", facts)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// whomToCall says who steps in for somebody who missed a check-in: the
// deputies, and after the absence that the plan names whoever comes from
// outside under contract.
func whomToCall(read *plan.Plan, d *Due, now time.Time) (stage, call string) {
	person := read.Person(strings.TrimPrefix(d.Of, "person "))
	if person == nil {
		return Lapsed, ""
	}
	var deputies, outside []string
	for _, name := range person.Deputies {
		if x := read.Person(name); x != nil && x.Outside {
			outside = append(outside, name)
		} else {
			deputies = append(deputies, name)
		}
	}
	if person.AwayAfter.Known() && !now.Before(d.Done.Add(person.AwayAfter.Longest())) && len(outside) > 0 {
		return "contractor", join(outside)
	}
	if len(deputies) == 0 {
		deputies = outside
	}
	if len(deputies) == 0 {
		return "nobody", "nobody: the plan names no deputy"
	}
	return "deputy", join(deputies)
}

func (g *Plans) alarm(ctx context.Context, tx pgx.Tx, code string, critical bool, facts map[string]string) error {
	if g.o.Alarm == nil {
		return nil
	}
	return g.o.Alarm(ctx, tx, code, critical, facts)
}
