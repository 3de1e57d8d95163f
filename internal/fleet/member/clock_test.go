package member_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// turned is a clock that is wrong by what is set.
type turned struct{ by atomic.Int64 }

func (c *turned) now() time.Time     { return time.Now().Add(time.Duration(c.by.Load())) }
func (c *turned) to(d time.Duration) { c.by.Store(int64(d)) }

// The clock of the node that leads jumps, back and ahead, by less than a day
// and by more than a certificate lasts. Leases and terms go by what has
// passed and not by what the clock says: nobody loses the lead, no epoch is
// given anew. When the clock is right again the others speak to the node.
func TestAClockThatJumpsEndsNoLeaseAndNoTerm(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	var clock turned
	f := membertest.StartWith(t, 3, func(i int, o *member.Options) {
		o.CertLife = 10 * time.Minute // looked at every half minute
		if i == 0 {
			o.Clock = clock.now
		}
	})
	first := f.Members[0]
	membertest.Await(t, "its presence", func(context.Context) bool { return first.Presence() != nil })
	term, err := first.Lead(t.Context(), "leader")
	if err != nil {
		t.Fatal(err)
	}
	presence := first.Presence()
	writes := 0
	for _, jump := range []time.Duration{-2 * time.Hour, 2 * time.Hour, -100 * 24 * time.Hour, 20 * time.Hour} {
		clock.to(jump)
		// Three times as long as a lease holds by itself.
		for end := time.Now().Add(3 * member.LeaderTTL); time.Now().Before(end); {
			ctx, cancel := context.WithTimeout(t.Context(), membertest.Patience)
			if _, err := term.Put(ctx, "verdicts/x", note{jump.String()}); err == nil {
				writes++
			}
			s := f.Members[1].Status(ctx)
			cancel()
			if s.Leader != "" && s.Leader != first.Name() || s.Epoch != 0 && s.Epoch != term.Epoch() {
				t.Fatalf("after a jump by %s %s leads at %d, and it was %d", jump, s.Leader, s.Epoch, term.Epoch())
			}
		}
		select {
		case <-term.Done():
			t.Fatalf("a jump by %s ended the term", jump)
		case <-presence.Done():
			t.Fatalf("a jump by %s ended the presence", jump)
		default:
		}
	}
	if writes == 0 {
		t.Error("nothing was written")
	}

	// Far ahead it makes itself a certificate that the others refuse, until the
	// clock is right.
	renewed := first.Status(t.Context()).Expires
	clock.to(10 * 24 * time.Hour)
	membertest.Await(t, "a certificate of the future", func(ctx context.Context) bool {
		return first.Status(ctx).Expires.After(renewed.Add(9 * 24 * time.Hour))
	})
	membertest.Await(t, "the others to refuse it", func(ctx context.Context) bool { return f.Members[1].Status(ctx).Answer == 2 })
	clock.to(0)
	membertest.Await(t, "the others to speak to it again", func(ctx context.Context) bool {
		s := f.Members[1].Status(ctx)
		return s.Majority && s.Answer == 3
	})
}

// A node whose certificate ran out while it was connected is refused on that
// connection, and told why.
func TestACertificateThatRanOutIsRefusedOnAnOpenConnection(t *testing.T) {
	faultsOnly(t)
	t.Parallel()
	var clock turned // of the member; the gateway's stays, so that it does not renew
	f := membertest.StartWith(t, 1, func(_ int, o *member.Options) { o.Clock = clock.now })
	o := membertest.Options(t, "gw1", member.Gateway)
	f.Join(t, 0, o)
	gateway, err := member.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gateway.Stop(context.WithoutCancel(t.Context())) })
	membertest.Await(t, "it writes", func(ctx context.Context) bool { return write(ctx, gateway, "seen/x", "in time") == nil })
	watched := gateway.Store().Watch(t.Context(), "seen/", 0)
	clock.to(91 * 24 * time.Hour)
	one, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := write(one, gateway, "seen/x", "too late"); err == nil {
		t.Error("it still writes")
	}
	if _, err := gateway.Store().Get(one, "seen/x"); err == nil {
		t.Error("it still reads")
	}
	// What it watches is not told any more either.
	if err := write(t.Context(), f.Members[0], "seen/x", "secret by now"); err != nil {
		t.Fatal(err)
	}
	for e := range watched {
		var n note
		if e.Err == nil && e.Decode(&n) == nil && n.Text == "secret by now" {
			t.Error("it still hears")
		}
		if e.Err != nil {
			break
		}
	}
	clock.to(0)
	membertest.Await(t, "it writes again", func(ctx context.Context) bool { return write(ctx, gateway, "seen/x", "again") == nil })
}
