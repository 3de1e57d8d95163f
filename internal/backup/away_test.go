package backup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/problem"
)

// A directory that was accepted and is not mounted now is said to be away, with
// what to do; the schedule leaves it alone; and it is backed up to as soon as it
// is back, whatever failed before.
func TestATargetThatIsAwayIsLeftAloneAndTakenBack(t *testing.T) {
	h := newHouse(t, func(h *house, o *Options) {
		h.target = h.target.Keep(filepath.Join(t.TempDir(), "targets"), target.Place{}, false)
		o.Targets = []target.Target{h.target}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.target.Admit(t.Context()))
	away := h.target.Path + ".unmounted"
	must(os.Rename(h.target.Path, away))
	must(os.Mkdir(h.target.Path, 0o755))

	j := h.done(h.b.Start(t.Context(), operator, Request{Subjects: []Subject{Database}}))
	if j.State != Failed || j.Runs[0].Code != "target-away" || !strings.Contains(j.Runs[0].Mend, "Mount it") {
		t.Fatalf("a run that somebody asked for: %+v", j.Runs[0])
	}
	must(h.b.watch(t.Context()))
	h.now = func() time.Time { return time.Now().Add(24 * time.Hour) } // every retry is due
	must(h.b.schedule(t.Context()))
	h.work.Wait()
	h.now = time.Now
	jobs, err := h.b.Jobs(t.Context(), operator, Filter{Limit: 100})
	if err != nil || len(jobs) != 1 {
		t.Errorf("the schedule ran something: %+v (%v)", jobs, err)
	}
	s := h.status()
	at := s.Targets[0]
	if at.Reachable || !strings.Contains(at.Failure, "away") || at.Free != -1 {
		t.Errorf("the target is shown as %+v", at)
	}
	told := false
	for _, p := range s.Problems {
		told = told || p.Code == "backup-target-failing" && p.Severity == "critical" && strings.Contains(p.Mend, "Mount it")
		if p.Code == "backup-not-apart" && (strings.Contains(p.Reason, "volume of the data") || strings.Contains(p.Reason, "not there")) {
			t.Errorf("a target that is away cannot be judged: %+v", p)
		}
	}
	if !told || !h.alarms.has("backup-target-failing") {
		t.Errorf("nobody is told: %+v, %v", s.Problems, h.alarms.said)
	}
	for name, look := range map[string]evidence.Collect{"O-29": h.b.AgeControl, "O-31": h.b.ApartControl} {
		found, err := look(t.Context(), func(string) {})
		must(err)
		if len(found) == 0 || found[0].Result == evidence.Pass || !strings.Contains(found[0].Reason, "away") {
			t.Errorf("%s: %+v", name, found)
		}
	}
	if entries, err := os.ReadDir(h.target.Path); err != nil || len(entries) != 0 {
		t.Errorf("the empty mount point holds %v (%v)", entries, err)
	}

	must(os.Remove(h.target.Path))
	must(os.Rename(away, h.target.Path))
	must(h.b.watch(t.Context()))
	must(h.b.schedule(t.Context()))
	h.work.Wait()
	if s := h.status(); !s.Targets[0].Reachable || s.Targets[0].Failure != "" || s.Newest == nil {
		t.Errorf("back again: %+v", s.Targets[0])
	}
}

// An engine makes directories anew that it misses: what is taken away under it
// ends it.
func TestARunEndsWhenItsTargetGoesAway(t *testing.T) {
	at := target.Target{Config: target.Config{Name: "shelf", Kind: target.Directory, Path: t.TempDir()}}.Keep(t.TempDir(), target.Place{}, false)
	if err := at.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := whileThere(t.Context(), at, func(ctx context.Context) error {
		if err := os.Remove(filepath.Join(at.Path, "foundry-target.json")); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if p := problem.From(err); p == nil || p.Code != "target-away" || chain(err) == "" {
		t.Errorf("got %v", err)
	}
	if err := whileThere(t.Context(), at, func(context.Context) error { return nil }); problem.From(err).Code != "target-away" {
		t.Errorf("an engine that noticed nothing: %v", err)
	}
}
