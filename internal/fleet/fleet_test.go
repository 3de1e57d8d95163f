package fleet_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

func (l *lab) confirmed() (out []fleet.Confirmed) {
	l.t.Helper()
	l.await("what was confirmed can be read", func() bool {
		var err error
		out, err = l.one().Confirmed(context.Background())
		return err == nil
	})
	return out
}

func TestALossIsSuspectedThenConfirmedThenEndsAndEachIsEvidence(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, quick, nil)
	l.watchAll()
	l.kill(2)
	l.ruled("node/node3", verdict.Lost)

	v, _ := l.services[0].Ruled("node/node3")
	if v.Epoch == 0 || v.Quorum != 2 || !strings.Contains(v.Words, "cannot reach it by") || !strings.Contains(v.Words, "its lease ended") {
		t.Errorf("the loss is held as %+v", v)
	}
	all := l.confirmed()
	if len(all) != 1 || all[0].Ended || all[0].Verdict.Subject != "node/node3" || len(all[0].Verdict.For) < 3 || all[0].Epoch != v.Epoch {
		t.Errorf("the evidence is %+v", all)
	}
	p := l.services[1].Picture()
	if !p.Majority || p.Leader == "" || p.Epoch == 0 || !strings.Contains(p.Words, "if one more goes, nothing can be decided") {
		t.Errorf("the picture says %+v", p)
	}

	l.revive(2)
	l.ruled("node/node3", verdict.Fine)
	l.await("its end is evidence too", func() bool {
		all := l.confirmed()
		return len(all) == 2 && all[1].Ended && all[1].Verdict.Subject == "node/node3"
	})
}

func TestWhoIsLeftWithoutAMajoritySaysSoAndAccusesNobody(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, quick, nil)
	l.watchAll()
	l.kill(0)
	l.kill(1)
	l.await("node3 knows that it hears no majority", func() bool {
		v, _ := l.services[2].Held("node/node3")
		return v.State == verdict.CutOff
	})
	p := l.services[2].Picture()
	if p.Majority || !strings.Contains(p.Words, "2 of 3 members are not heard; nothing can be decided until one is back") || p.Known.IsZero() {
		t.Errorf("the picture says %v, %q, known %v", p.Majority, p.Words, p.Known)
	}
	for _, node := range []string{"node1", "node2"} {
		l.await(node+" is avoided, and not accused", func() bool {
			v, _ := l.services[2].Held(verdict.Node(node))
			return v.State == verdict.Unknown && v.Avoid()
		})
	}
	if v, _ := l.services[2].Held("function/shop"); v.State != verdict.Fine {
		t.Errorf("the shop, which node3 reaches, is %s: %s", v.State, v.Words)
	}
	if v, _ := l.services[2].Held("node/node3"); !strings.Contains(v.Words, "it does reach shop") {
		t.Errorf("node3 says of itself: %s", v.Words)
	}
	if len(l.states("node3", "node/node1")) > 0 && slices.Contains(l.states("node3", "node/node1"), verdict.Lost) {
		t.Errorf("node3 held node1 %v", l.states("node3", "node/node1"))
	}
	l.revive(0)
	l.await("two of three decide again", func() bool { return l.services[2].Picture().Majority })
}
