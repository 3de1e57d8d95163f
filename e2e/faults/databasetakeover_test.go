//go:build faults

package faults

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/daemon"
)

// The primary is cut off, the other restores and takes over, the old one comes
// back, is started again, and stays down until it rejoins; meanwhile the new one
// is gone too. At no moment two of them acknowledge writes.
func TestATakeOverHasOneWriterAtATime(t *testing.T) {
	if testing.Short() {
		t.Skip("in the full pass")
	}
	t.Parallel()
	f := newDatabaseFleet(t, true)
	w := f.write()
	one, two := f.one, f.two
	w.flow(one)

	f.net.isolate(1)
	cut := time.Now()
	two.untilNobody()
	over := time.Now()
	two.untilState(daemon.DatabasePrimary)
	w.flow(two)
	healed := time.Now()
	w.noneAt(one, "cut off", over, healed)
	t.Logf("cut off: the last write of the old primary was acknowledged %s after that, the fleet knew after %s, and the first of the new one was acknowledged after %s",
		w.since(one, cut, healed).Round(time.Millisecond), over.Sub(cut).Round(time.Millisecond), w.first(two).Sub(cut).Round(time.Millisecond))

	f.net.healAll()
	one.untilState(daemon.DatabaseFenced)
	one.untilDatabase("one to use the database of two", func(s daemon.Status) bool { return s.Database.Healthy })
	one.signal(syscall.SIGTERM)
	one.ended()
	one.start()
	one.untilState(daemon.DatabaseFenced)
	w.flow(two)

	// With the new primary gone as well there is a majority, which names a node
	// that is not there.
	two.powerOff()
	off := time.Now()
	f.three.untilNobody()
	pass(2 * databaseLease)
	one.untilState(daemon.DatabaseFenced)
	if left := one.postgres(); len(left) > 0 {
		t.Errorf("the former primary runs a database: %v", left)
	}
	w.none("the new primary is gone too", off, time.Now())
	two.start()
	two.untilState(daemon.DatabasePrimary)
	w.flow(two)

	one.signal(syscall.SIGTERM)
	one.ended()
	if said := one.say("database", "rejoin"); !strings.Contains(said, "kept in") {
		t.Errorf("rejoin: %s", said)
	}
	one.start()
	one.untilState(daemon.DatabaseFollows)
	w.flow(two)
	w.noneAt(one, "since it was cut off", over, time.Now())
	w.end()
	w.oneAfterAnother()
	w.kept(two)
}

// Whoever leads a recovery is killed in every step of it, once, and the run ends
// as if nobody had been: one run, every step done, one restore, one new epoch.
func TestARecoveryEndsRightThoughItsLeaderDiesInEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("in the full pass")
	}
	t.Parallel()
	f := newDatabaseFleet(t, true)
	w := f.write()
	w.flow(f.one)
	f.one.powerOff()
	left := []*machine{f.two, f.three}
	runs := func() (all []recovery.Shown, leader *machine) {
		for _, m := range left {
			p, err := m.sees()
			if err != nil || !p.Majority || p.Leader == "" {
				continue
			}
			if m.api().call(http.MethodGet, "/api/v1/recoveries", nil, &all) == nil {
				if i := slices.IndexFunc(left, func(m *machine) bool { return m.name == p.Leader }); i >= 0 {
					return all, left[i]
				}
			}
		}
		return nil, nil
	}
	killed := map[string]int{}
	var run recovery.Shown
	last := ""
	for until := time.Now().Add(20 * time.Minute); run.Outcome == ""; pass(5 * glance) {
		if time.Now().After(until) {
			t.Fatalf("the recovery does not end: %+v", run)
		}
		all, leader := runs()
		if len(all) == 0 || leader == nil {
			continue
		}
		if run = all[0]; len(all) > 1 {
			t.Fatalf("%d recoveries of one loss", len(all))
		}
		for _, s := range run.Steps {
			if now := fmt.Sprint(s.Name, " ", s.State, " ", s.Words); s.State != recovery.Waiting && !s.State.Over() && now != last {
				last = now
				t.Log(now)
			}
			if s.State == recovery.NeedsPerson || s.State == recovery.Failed || s.State == recovery.Indeterminate {
				t.Fatalf("%s: %s %s %+v", s.Name, s.State, s.Words, s.Receipt)
			}
			// A step that is over before anybody has looked has its leader killed as
			// soon as it is seen: what follows it begins under another.
			if (s.State == recovery.Running || s.State.Over()) && killed[s.Name] == 0 && run.Outcome == "" {
				killed[s.Name]++
				t.Logf("%s is %s under %s, which is killed", s.Name, s.State, leader.name)
				leader.powerOff()
				leader.start()
				break
			}
		}
	}
	if run.Outcome != "done" || len(killed) < len(run.Steps)-1 {
		t.Errorf("it ended %q after kills in %v", run.Outcome, killed)
	}
	for _, s := range run.Steps {
		if s.State != recovery.Done {
			t.Errorf("%s is %s: %s", s.Name, s.State, s.Words)
		}
	}
	f.two.untilState(daemon.DatabasePrimary)
	w.flow(f.two)
	w.end()
	w.oneAfterAnother()
	epochs := f.two.number(`SELECT max(epoch) FROM fleet_epoch`)
	if epochs != 2 {
		t.Errorf("the database is in epoch %d: it was promoted more than once", epochs)
	}
	if again, err := filepath.Glob(filepath.Join(f.two.dir, "d", "postgres.aside-*")); err != nil || len(again) > 0 {
		t.Errorf("it was restored more than once: %v %v", again, err)
	}
	t.Logf("killed in %v; led by %d", killed, len(run.Reign))
}
