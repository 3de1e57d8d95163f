package outage

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// refusal is what makes two sign-ins that failed equal.
type refusal struct{ by, target, factor, reason string }

// refused counts those that are not in the fleet's list yet.
type refused struct {
	times int
	since time.Time
}

const (
	refusalWindow = time.Minute // in which equal refusals become one entry
	maxRefusals   = 200         // distinct ones at a time; further ones are entered as of others
)

// nobody is the actor before anybody has proven who they are.
const nobody = "system:sign-in"

// failed records a try that failed, and the lock that it may have caused, and
// returns why. The first of equal ones is in the fleet's list when it returns;
// one entry a minute counts the others.
func (d *Door) failed(ctx context.Context, a attempt, factor access.Factor, why error) error {
	r := refusal{nobody, access.AccountName(a.account), string(factor), problem.From(why).Code}
	if a.person != uuid.Nil {
		r.by, r.target = "person:"+a.person.String(), a.person.String()
	}
	d.refuse(ctx, r)
	if a.lock > 0 && a.refused == 0 {
		err := d.Enter(ctx, member.Act{By: nobody, Act: "person.lock", Target: r.target,
			Details: map[string]string{"failures": strconv.Itoa(a.fails), "seconds": strconv.Itoa(int(a.lock.Seconds())), "automatic": "true", "database": "away"}})
		if err != nil {
			d.Log.Warn("a lock is not in the fleet's list", "error", err)
		}
	}
	return why
}

func (d *Door) refuse(ctx context.Context, r refusal) {
	now := d.Clock()
	d.mu.Lock()
	known := d.refusals[r]
	if known == nil && len(d.refusals) >= maxRefusals {
		r.by, r.target = nobody, "account:others"
		known = d.refusals[r]
	}
	if known != nil {
		known.times++
		d.mu.Unlock()
		return
	}
	known = &refused{since: now}
	d.refusals[r] = known
	d.mu.Unlock()
	if err := d.enterRefusal(ctx, r, 1); err != nil {
		d.mu.Lock()
		known.times++
		d.mu.Unlock()
	}
}

func (d *Door) enterRefusal(ctx context.Context, r refusal, times int) error {
	details := map[string]string{"factor": r.factor, "reason": r.reason, "database": "away"}
	if times > 1 {
		details["times"] = strconv.Itoa(times)
	}
	return d.Enter(ctx, member.Act{By: r.by, Act: "person.signin", Target: r.target, Details: details, Denied: true})
}

// flush enters what was counted of refusals whose minute is over, and those
// that the fleet did not take before.
func (d *Door) flush(ctx context.Context) error {
	now := d.Clock()
	d.mu.Lock()
	due := map[refusal]int{}
	for r, c := range d.refusals {
		if now.Sub(c.since) < refusalWindow {
			continue
		}
		if c.times == 0 {
			delete(d.refusals, r)
			continue
		}
		due[r] = c.times
	}
	d.mu.Unlock()
	var all []error
	for r, times := range due {
		if err := d.enterRefusal(ctx, r, times); err != nil {
			all = append(all, err)
			continue
		}
		d.mu.Lock()
		d.refusals[r].times -= times
		d.refusals[r].since = now
		d.mu.Unlock()
	}
	return errors.Join(all...)
}
