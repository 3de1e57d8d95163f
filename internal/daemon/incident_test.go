//go:build faults

package daemon

import (
	"context"
	"slices"
	"testing"

	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
)

// anIncidentCameOfIt waits until a loss and its end are in one incident, with
// scope and clocks by the plan, and sees that nothing closed it.
func anIncidentCameOfIt(t *testing.T, d *Daemon, function string) {
	t.Helper()
	var found []*incident.Timeline
	membertest.Await(t, "the loss and its end are in an incident", func(ctx context.Context) bool {
		all, _, err := d.book.All(ctx)
		if err != nil {
			return false
		}
		found = slices.DeleteFunc(all, func(x *incident.Timeline) bool { return !lossOf(x, verdict.Function(function)) })
		return len(found) > 0 && found[0].State.Known(clock.Restored, function) != nil
	})
	if len(found) != 1 {
		t.Fatalf("%d incidents of one loss", len(found))
	}
	s := found[0].State
	if !s.ClosedAt.IsZero() || len(s.Signals) < 2 || !slices.Contains(s.Scope.Functions, function) || s.Plan == "" || len(s.Down(d.clock())) != 0 {
		t.Errorf("the incident is %+v", s)
	}
	if !slices.ContainsFunc(s.Clocks(d.clock()), func(r clock.Reading) bool { return r.ID == "rto/"+function && r.State == clock.Met }) {
		t.Errorf("its clocks are %+v", s.Clocks(d.clock()))
	}
}
