package outage

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
)

// tries is how often signing in to an account failed, over all nodes. It is
// sealed like everything here: a member that is no gateway can delete it, or
// put an older one back, but this node remembers what it has counted itself.
type tries struct {
	Failures int       `json:"failures"`
	Last     time.Time `json:"last,omitzero"`
	Locked   time.Time `json:"locked,omitzero"`
	Account  []byte    `json:"account,omitempty"` // nil: nobody has it
	Cleared  int       `json:"cleared,omitempty"` // how often a sign-in has cleared it
}

// forgetAfter is when tries that failed do not count any more.
const forgetAfter = 24 * time.Hour

// attempt is one try, counted before it is judged, so that tries made at the
// same time on several nodes count as well.
type attempt struct {
	d       *Door
	path    string
	account []byte
	person  uuid.UUID     // whose account it is; zero: nobody's
	refused time.Duration // for how long the account is locked
	lock    time.Duration // that a failure of this try brings
	fails   int
}

func failuresOf(account []byte) string { return pathFailures + hex.EncodeToString(account[:16]) }

// begin counts a try. Accounts that nobody has share a few thousand counters:
// whoever makes addresses up cannot fill the fleet's store, and cannot tell by
// the time it takes.
func (d *Door) begin(ctx context.Context, account []byte, who *access.Material) (attempt, error) {
	a := attempt{d: d, account: account, path: failuresOf(account)}
	if who == nil {
		a.path = fmt.Sprintf("%sunknown-%03x", pathFailures, (uint(account[0])<<8|uint(account[1]))&0xfff)
	} else {
		a.person = who.Person
	}
	now := d.Clock().UTC()
	var counted tries
	err := update(ctx, d, a.path, func(t *tries) error {
		a.refused, a.lock = 0, 0
		d.mu.Lock()
		if own := d.tries[a.path]; own.Cleared >= t.Cleared && own.Failures > t.Failures {
			*t = own
		}
		d.mu.Unlock()
		if who != nil {
			t.Account = who.Account
			if t.Last.IsZero() && who.Failures > t.Failures { // as the database had it
				t.Failures, t.Locked = who.Failures, who.LockedUntil
			}
		}
		if left := t.Locked.Sub(now); left > 0 {
			a.refused = left
			return errRefused
		}
		if now.Sub(t.Last) > forgetAfter && !t.Last.IsZero() {
			t.Failures = 0
		}
		t.Failures, t.Last = t.Failures+1, now
		if a.lock = access.LockFor(t.Failures); a.lock > 0 {
			t.Locked = now.Add(a.lock)
		}
		a.fails, counted = t.Failures, *t
		return nil
	})
	if err == errRefused {
		return a, nil
	}
	if err == nil {
		d.mu.Lock()
		d.tries[a.path] = counted
		d.mu.Unlock()
	}
	return a, err
}

// errRefused ends a change of what is counted without writing it.
var errRefused = errors.New("refused")

// change rewrites the count of an attempt.
func (a attempt) change(ctx context.Context, how func(*tries)) error {
	var after tries
	err := update(ctx, a.d, a.path, func(t *tries) error {
		how(t)
		after = *t
		return nil
	})
	if err == nil {
		a.d.mu.Lock()
		a.d.tries[a.path] = after
		a.d.mu.Unlock()
	}
	return err
}

// undo takes back the count of a try that was right, and not yet the whole
// sign-in.
func (a attempt) undo(ctx context.Context) error {
	return a.change(ctx, func(t *tries) {
		t.Failures, t.Cleared = max(t.Failures-1, 0), t.Cleared+1
		if a.lock > 0 {
			t.Locked = time.Time{}
		}
	})
}

// clear forgets all tries after a sign-in.
func (a attempt) clear(ctx context.Context) error {
	if a.d == nil {
		return nil
	}
	return a.change(ctx, func(t *tries) { t.Failures, t.Locked, t.Cleared = 0, time.Time{}, t.Cleared+1 })
}

// spent is what somebody has used up since the database is away.
type spent struct {
	Step     int64      `json:"step,omitempty"`
	Passkeys []spentKey `json:"passkeys,omitempty"`
}

type spentKey struct {
	ID    []byte `json:"id"`
	Count uint32 `json:"count"`
}

// takeStep takes a step of somebody's code generator for good, on whichever
// node: false where it, or a later one, was taken.
func (d *Door) takeStep(ctx context.Context, person uuid.UUID, step int64) (taken bool, err error) {
	err = d.spend(ctx, person, func(s *spent) bool {
		taken = step > s.Step
		s.Step = max(s.Step, step)
		return taken
	})
	return taken, err
}

// takeCount takes an authenticator's counter, as [access] does with the
// database: false where it did not grow, which a copy of it would explain. One
// that always says 0 keeps no counter.
func (d *Door) takeCount(ctx context.Context, person uuid.UUID, id []byte, count, before uint32) (grew bool, err error) {
	err = d.spend(ctx, person, func(s *spent) bool {
		at := -1
		for i := range s.Passkeys {
			if bytes.Equal(s.Passkeys[i].ID, id) {
				at = i
			}
		}
		if at < 0 {
			s.Passkeys, at = append(s.Passkeys, spentKey{ID: id, Count: before}), len(s.Passkeys)
		}
		was := max(before, s.Passkeys[at].Count)
		grew = count > was || count == 0 && was == 0
		s.Passkeys[at].Count = max(was, count)
		return grew
	})
	return grew, err
}

// spend changes what somebody has used up. This node's own memory counts too:
// a store that was set back gives nothing back.
func (d *Door) spend(ctx context.Context, person uuid.UUID, take func(*spent) bool) error {
	var after spent
	taken := false
	err := update(ctx, d, pathSpent+person.String(), func(s *spent) error {
		d.mu.Lock()
		s.Step = max(s.Step, d.spent[person].Step)
		d.mu.Unlock()
		if taken = take(s); !taken {
			return errRefused
		}
		after = *s
		return nil
	})
	if err == errRefused {
		return nil
	}
	if err == nil {
		d.mu.Lock()
		d.spent[person] = after
		d.mu.Unlock()
	}
	return err
}
