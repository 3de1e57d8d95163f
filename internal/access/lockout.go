package access

import (
	"context"
	"encoding/hex"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Lock-out of an account: nothing up to freeFailures wrong tries, then twice
// as long with each, and never longer than longestLock, so that nobody can be
// kept out for ever by somebody who types wrong passwords. A passkey opens a
// locked account all the same: it cannot be guessed.
const (
	freeFailures = 5
	firstLock    = 30 * time.Second
	longestLock  = 15 * time.Minute
)

// lockFor is how long an account is locked when the given number of tries in a
// row failed.
func lockFor(failures int) time.Duration {
	if failures < freeFailures {
		return 0
	}
	lock := firstLock
	for n := freeFailures; n < failures && lock < longestLock; n++ {
		lock *= 2
	}
	return min(lock, longestLock)
}

func errLocked(left time.Duration) error {
	return problem.New(problem.RateLimited, "signin-locked", "There were too many wrong attempts for this address.").
		WithMend("Wait, or sign in with a passkey.").WithRetry(left)
}

// accountName names an account in the audit log that belongs to nobody, or
// to nobody yet: a keyed hash, never the address.
func accountName(account []byte) string { return "account:" + hex.EncodeToString(account[:8]) }

// auditReleases releases what is no longer locked.
func (s *People) auditReleases(ctx context.Context, tx pgx.Tx) error {
	released, err := releaseLocks(ctx, tx)
	if err != nil {
		return err
	}
	for _, r := range released {
		target := accountName(r.account)
		if r.person != nil {
			target = r.person.String()
		}
		if err := audit.Append(ctx, tx, principal.Node("sign-in"), uuid.Nil, "person.unlock", target, map[string]any{"automatic": true}); err != nil {
			return err
		}
	}
	return nil
}

// Unlock releases a locked account before its time.
func (s *People) Unlock(ctx context.Context, p principal.Principal, person uuid.UUID) error {
	about, memberships, err := s.person(ctx, person)
	if err != nil {
		return s.unknown(ctx, p, "person.unlock", person.String(), err)
	}
	org := homeFor(p, memberships)
	if err := s.Guard.Authorise(ctx, p, "person.unlock", policy.Resource{ID: person.String(), Organisation: org}); err != nil {
		return err
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		locked, err := clearFailures(ctx, tx, about.mac)
		if err != nil || !locked {
			return err
		}
		return record(ctx, tx, p, org, "person.unlock", person.String(), nil)
	})
}

// homeFor is the organisation in which an act on a person is judged: the
// actor's own if the person belongs to it, otherwise the platform.
func homeFor(p principal.Principal, memberships []Membership) uuid.UUID {
	for _, m := range memberships {
		if m.Organisation == p.Organisation {
			return m.Organisation
		}
	}
	return uuid.Nil
}

// Limits of one network address: a burst, then one try in addressEvery (GCRA).
// IPv6 networks count by /64, which is what one subscriber has.
const (
	addressBurst = 20
	addressEvery = 6 * time.Second
	maxAddresses = 16384 // remembered at once; 40 bytes each
)

// addressLimits counts tries by network address, on this node, in memory.
type addressLimits struct {
	clock func() time.Time
	mu    sync.Mutex
	due   map[netip.Prefix]time.Time // when the address has used up nothing any more
	over  map[netip.Prefix]bool      // refused since it was last within its limit
}

func newAddressLimits(clock func() time.Time) *addressLimits {
	return &addressLimits{clock: clock, due: map[netip.Prefix]time.Time{}, over: map[netip.Prefix]bool{}}
}

func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero address gives the zero prefix: all unknown peers together
	return p
}

// take counts one try. first says that the address has just been limited.
func (l *addressLimits) take(a netip.Addr) (wait time.Duration, first bool) {
	now, net := l.clock(), network(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.due[net]
	if due.Before(now) {
		due = now
	}
	if wait = due.Sub(now) - (addressBurst-1)*addressEvery; wait > 0 {
		first = !l.over[net]
		l.over[net] = true
		return wait, first
	}
	if len(l.due) >= maxAddresses {
		l.forget(now)
	}
	l.due[net] = due.Add(addressEvery)
	return 0, false
}

// forget makes room: first what is as good as new, then, under an attack from
// very many networks, whatever comes first. The lock of the account still holds.
func (l *addressLimits) forget(now time.Time) {
	for net, due := range l.due {
		if !due.After(now) {
			delete(l.due, net)
			delete(l.over, net)
		}
	}
	for net := range l.due {
		if len(l.due) < maxAddresses {
			return
		}
		delete(l.due, net)
		delete(l.over, net)
	}
}

// released returns the addresses that were refused and are free again.
func (l *addressLimits) released() (out []netip.Prefix) {
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for net := range l.over {
		if l.due[net].Sub(now) <= (addressBurst-1)*addressEvery {
			out = append(out, net)
			delete(l.over, net)
		}
	}
	return out
}

// limit counts a try from an address, and audits when it becomes too many. An
// address is personal data: the log has a keyed hash of it.
func (s *People) limit(ctx context.Context, c Client) error {
	wait, first := s.addresses.take(c.Address)
	if wait == 0 {
		return nil
	}
	if first {
		if err := audit.Deny(ctx, s.DB, nobody, uuid.Nil, "address.lock", s.networkName(network(c.Address)), nil); err != nil {
			return err
		}
	}
	return errAddressLimited(wait)
}

func (s *People) networkName(net netip.Prefix) string {
	return "network:" + hex.EncodeToString(s.lookup("network", net.String())[:8])
}

func (s *People) releaseAddresses(ctx context.Context) error {
	released := s.addresses.released()
	if len(released) == 0 {
		return nil
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		for _, net := range released {
			if err := audit.Append(ctx, tx, nobody, uuid.Nil, "address.unlock", s.networkName(net), map[string]any{"automatic": true}); err != nil {
				return err
			}
		}
		return nil
	})
}
