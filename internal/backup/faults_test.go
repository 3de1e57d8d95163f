package backup

import (
	"context"
	"slices"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// A drill without a backup would leave a signed record of a promise that was
// never made.
func TestWithoutABackupThereIsNoDrill(t *testing.T) {
	h := newHouse(t, nil)
	for _, in := range []DrillRequest{{}, {Which: Random}, {Target: "one"}} {
		_, err := h.b.StartDrill(t.Context(), operator, in)
		if p := problem.From(err); p.Code != "drill-nothing" || p.Kind != problem.Conflict || p.Mend == "" {
			t.Fatalf("%+v: %v", in, err)
		}
	}
	if all, err := h.b.Drills(t.Context(), operator, Filter{}); err != nil || len(all) != 0 {
		t.Fatalf("%+v %v", all, err)
	}
	for _, p := range h.status().Problems {
		if p.Code == "backup-unproven" {
			t.Errorf("shown as a failed promise: %+v", p)
		}
	}
}

// A backup that failed stays among what is wrong until one succeeds.
func TestAFailedBackupIsAmongTheProblemsUntilOneSucceeds(t *testing.T) {
	full := true
	h := newHouse(t, func(h *house, o *Options) {
		honest := h.plain
		o.Database = &liar{Plain: honest, backup: func(ctx context.Context, at target.Target, r engine.BackupRequest) (engine.Point, error) {
			if full {
				return engine.Point{}, problem.New(problem.Unavailable, "target-full", "The target one is full.").WithMend("Make room there.")
			}
			return honest.Backup(ctx, at, r, nil)
		}}
	})
	listed := func() bool {
		return slices.ContainsFunc(h.status().Problems, func(p Problem) bool {
			return p.Code == "backup-backup-failed" && p.Target == "one" && p.Mend == "Make room there."
		})
	}
	h.done(h.b.Start(t.Context(), operator, Request{}))
	if !listed() {
		t.Fatalf("%+v", h.status().Problems)
	}
	full = false
	h.backUp()
	if listed() {
		t.Fatalf("%+v", h.status().Problems)
	}
}
