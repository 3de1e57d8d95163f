//go:build faults

package member_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// A leader of etcd renews leases in its memory, and takes itself for the leader
// for a while after it has lost the others. What it renews then ends earlier for
// whoever follows it.
func TestALeaseIsNotRenewedByALeaderThatHasLostTheOthers(t *testing.T) {
	t.Parallel()
	f := membertest.Start(t, 3)
	leader := f.Leader(t)
	m := f.Members[leader]
	lease, err := m.Lease(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	renew := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, gone, err := m.Renew(ctx, lease)
		if gone {
			t.Fatal("the lease is gone")
		}
		return err
	}
	membertest.Await(t, "the lease to be renewed while all are there", func(context.Context) bool { return renew() == nil })
	var others sync.WaitGroup
	for i := range f.Members {
		if i != leader {
			others.Go(func() { f.Kill(t, i) })
		}
	}
	others.Wait()
	for refused := 0; refused < 3; refused++ {
		if err := renew(); err == nil {
			t.Fatal("renewed though nobody else is there")
		} else if !errors.Is(err, member.ErrNoMajority) {
			t.Logf("refused: %v", err)
		}
	}
}
