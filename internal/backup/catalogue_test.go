package backup

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// What a repository says of a backup later counts more than what it said first.
func TestTheCatalogueFollowsTheRepository(t *testing.T) {
	l := &liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Plain, o.Database = h.plain, l })
	h.backUp()
	look := func(what string, says func([]engine.Point) []engine.Point, fits func(Point) bool) {
		t.Helper()
		l.points = says
		h.done(h.b.StartVerify(t.Context(), operator, TargetRequest{}))
		if p, err := h.b.Point(t.Context(), operator, "one", "P001"); err != nil || !fits(p) {
			t.Errorf("%s: %+v %v", what, p, err)
		}
	}
	whole := func(p Point) bool { return p.Broken == "" && p.Gone == nil && p.GoneWhy == "" }
	same := func(all []engine.Point) []engine.Point { return all }
	look("as it was made", same, whole)
	look("found to be damaged", func(all []engine.Point) []engine.Point {
		out := slices.Clone(all)
		out[0].Broken = "It is damaged."
		return out
	}, func(p Point) bool { return p.Broken == "It is damaged." && p.Gone == nil })
	look("gone", func([]engine.Point) []engine.Point { return nil }, func(p Point) bool { return p.Gone != nil && p.GoneWhy == whyLost })
	look("back, as after a mount that was away", same, whole)
}

func TestOldSentinelsGoAndThoseLeftHaveNoGap(t *testing.T) {
	h := newHouse(t, nil)
	for range 9 {
		if err := h.b.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	admin(t, h.plain, `UPDATE backup_sentinels SET at = at - interval '100 days' WHERE id <= 5`)
	for range 2 {
		if err := h.b.prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, err := sentinelsUntil(t.Context(), h.db, time.Now().Add(time.Hour), 100)
		if err != nil || len(left) != 6 || left[0].ID != 4 || left[5].ID != 9 {
			t.Fatalf("%+v %v", left, err)
		}
	}
}

// A run that this process makes is alive, however long the database did not
// hear of it: it may have been away.
func TestARunOfThisProcessIsNeverCalledInterruptedByIt(t *testing.T) {
	var ended []Run
	var err error
	h := newHouse(t, func(h *house, o *Options) {
		o.Database = &liar{Plain: h.plain, backup: func(ctx context.Context, at target.Target, r engine.BackupRequest) (engine.Point, error) {
			admin(h.t, h.plain, `UPDATE backup_runs SET heard_at = now() - interval '1 hour' WHERE state = 'running'`)
			ended, err = h.b.endStale(ctx)
			return h.plain.Backup(ctx, at, r, nil)
		}}
	})
	if h.backUp(); err != nil || len(ended) != 0 {
		t.Errorf("ended %+v, %v", ended, err)
	}
}

func TestAJobRunsUntilAllOfItHasEndedAndIsAsBadAsItsWorst(t *testing.T) {
	for _, c := range []struct {
		runs []State
		want State
	}{
		{nil, Done},
		{[]State{Done, Done}, Done},
		{[]State{Done, Interrupted}, Interrupted},
		{[]State{Failed, Interrupted, Done}, Failed},
		{[]State{Failed, Running, Done}, Running},
		{[]State{Running, Interrupted}, Running},
	} {
		var runs []Run
		for _, s := range c.runs {
			runs = append(runs, Run{State: s})
		}
		if got := worst(runs); got != c.want {
			t.Errorf("%v: %s, want %s", c.runs, got, c.want)
		}
	}
}

// Whoever looks only at runs must not be misled by one that ended.
func TestARunThatProvedTheOppositeHasFailed(t *testing.T) {
	l := &liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Plain, o.Database = h.plain, l })
	h.backUp()
	h.settle()
	l.restore = func(context.Context, target.Target, engine.RestoreRequest) (engine.Restored, error) {
		return engine.Restored{}, problem.New(problem.Internal, "repository-damaged", "The repository is damaged.").WithMend("Restore another point.")
	}
	if j, d := h.drill(DrillRequest{}); d.Outcome != Fail || j.State != Failed || j.Runs[0].Code != "drill-failed" || j.Runs[0].Mend == "" {
		t.Errorf("%s; %+v", d.Outcome, j.Runs[0])
	}
	l.restore = func(context.Context, target.Target, engine.RestoreRequest) (engine.Restored, error) {
		return engine.Restored{}, problem.New(problem.Unavailable, "target-gone", "The target does not answer.").WithMend("See whether it runs.")
	}
	if j, d := h.drill(DrillRequest{}); d.Outcome != Inconclusive || j.State != Failed || j.Runs[0].Code != "drill-inconclusive" {
		t.Errorf("%s; %+v", d.Outcome, j.Runs[0])
	}
	l.points = func(all []engine.Point) []engine.Point {
		out := slices.Clone(all)
		out[len(out)-1].Broken = "Pages did not match."
		return out
	}
	if j := h.done(h.b.Start(t.Context(), operator, Request{Subjects: []Subject{Database}})); j.State != Failed || j.Runs[0].Code != "backup-broken" {
		t.Errorf("a backup that its own repository calls broken: %+v", j.Runs[0])
	}
}
