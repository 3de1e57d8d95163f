//go:build faults

package fleet_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

func TestASuspicionIsToldAtOnceAndEndsWhenTheNodeAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, confirmIn(time.Hour), nil)
	l.watchAll()
	l.kill(2)
	l.await("both go around node3", func() bool {
		return slices.Contains(l.states("node1", "node/node3"), verdict.Suspected) && slices.Contains(l.states("node2", "node/node3"), verdict.Suspected)
	})
	l.ruled("node/node3", verdict.Suspected)
	l.revive(2)
	l.ruled("node/node3", verdict.Fine)
	if all := l.confirmed(); len(all) != 0 {
		t.Errorf("a suspicion became %+v", all)
	}
}

func TestALossIsConfirmedByTheNextLeaderWhenTheFirstGoesWhileItJudges(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, confirmIn(15*time.Second), nil)
	l.watchAll()
	l.shop.down()
	l.ruled("function/shop", verdict.Suspected)
	first, _ := l.services[0].Ruled("function/shop")
	leader := slices.IndexFunc(l.f.Members, func(m *member.Member) bool { return m.Name() == l.services[0].Picture().Leader })
	l.kill(leader)
	l.ruled("function/shop", verdict.Lost)
	v, _ := l.one().Ruled("function/shop")
	if v.Quorum != 2 || len(v.For) < 2 || v.Epoch < first.Epoch {
		t.Errorf("first suspected in epoch %d, then %+v", first.Epoch, v)
	}
	l.await("another leads", func() bool {
		p := l.one().Picture()
		return p.Leader != "" && p.Leader != l.f.Options[leader].Name && p.Epoch > first.Epoch
	})
	l.shop.up()
	l.ruled("function/shop", verdict.Fine)
}

func TestADrainedNodeThatGoesIsNotLost(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, quick, nil)
	l.watchAll()
	if err := l.f.Members[0].Drain(context.Background(), "person:test", "node3", true); err != nil {
		t.Fatal(err)
	}
	l.ruled("node/node3", verdict.Drained)
	l.kill(2)
	l.await("its silence is seen", func() bool {
		v, _ := l.services[0].Held("node/node3")
		return strings.Contains(v.Words, "silent since")
	})
	if all := l.confirmed(); len(all) != 0 {
		t.Errorf("confirmed: %+v", all)
	}
}
