//go:build faults

package faults

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
)

// Whatever happens to the node that runs the database: once the fleet takes
// its time for over, no write is acknowledged any more, through whatever way it
// is asked for, until that node is told again that it may.
func TestADatabaseWhoseTimeIsOverAcknowledgesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("in the full pass")
	}
	t.Parallel()
	f := newDatabaseFleet(t, false)
	w := f.write()
	one := f.one
	isDog := []string{"watchdog", one.dir}
	var cut time.Time // from when nobody is asked for more time
	for _, fault := range []struct {
		name    string
		do, end func()
	}{
		// The first of a fleet leads its store, and would renew its own lease for
		// as long as it takes itself for the leader.
		{"isolated both ways", func() { f.net.isolate(1) }, f.net.healAll},
		{"cut off, stopped for less than the lease, and goes on", func() {
			f.net.isolate(1)
			cut = time.Now()
			one.signalAll(syscall.SIGSTOP)
			pass(4 * time.Second)
			one.signalAll(syscall.SIGCONT)
		}, f.net.healAll},
		{"not heard any more", func() { f.net.drop(1, 2); f.net.drop(1, 3) }, f.net.healAll},
		{"not hearing any more", func() { f.net.drop(2, 1); f.net.drop(3, 1) }, f.net.healAll},
		{"its Foundry stopped", func() { one.signal(syscall.SIGSTOP) }, func() {
			slowly(t, "the watchdog to end the database", func() (bool, string) {
				left := one.postgres()
				return len(left) == 0, "it goes on"
			})
			one.signal(syscall.SIGCONT)
		}},
		{"its Foundry stopped and its watchdog killed", func() {
			one.signal(syscall.SIGSTOP)
			one.signalAll(syscall.SIGKILL, isDog...)
		}, func() { one.signal(syscall.SIGCONT) }},
		{"all of it stopped, and goes on at once", func() { one.signalAll(syscall.SIGSTOP) }, func() { one.signalAll(syscall.SIGCONT) }},
		{"all of it stopped, and PostgreSQL goes on first", func() { one.signalAll(syscall.SIGSTOP) }, func() {
			signalAll(one.postgres(), syscall.SIGCONT)
			pass(time.Second)
			one.signalAll(syscall.SIGCONT)
		}},
		{"all of it stopped, and PostgreSQL goes on last", func() { one.signalAll(syscall.SIGSTOP) }, func() {
			one.signal(syscall.SIGCONT)
			one.signalAll(syscall.SIGCONT, "watchdog")
			pass(time.Second)
			one.signalAll(syscall.SIGCONT)
		}},
	} {
		w.flow(one)
		late := w.idle(one)
		cut = time.Time{}
		fault.do()
		if cut.IsZero() {
			cut = time.Now()
		}
		f.two.untilNobody()
		over := time.Now()
		late.send()
		pass(2 * time.Second) // for writers that do not know it
		healed := time.Now()
		fault.end()
		f.three.untilDatabase("the database to be there again", func(s daemon.Status) bool { return s.Database.Healthy })
		w.flow(one)
		if n := late.acknowledged(); n > 0 {
			t.Errorf("%s: %d writes that were asked for after the end of its time were acknowledged", fault.name, n)
		}
		w.none(fault.name, over, healed)
		w.none(fault.name+", by its own clock", cut.Add(databaseLease), healed)
		t.Logf("%s: the last write that was acknowledged ended %s after that, the fleet knew after %s", fault.name,
			w.since(one, cut, healed).Round(time.Millisecond), over.Sub(cut).Round(time.Millisecond))
	}
	w.end()
	w.kept(one)
}

// A watchdog that is killed is replaced, and nobody notices.
func TestAWatchdogThatIsKilledIsReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("in the full pass")
	}
	t.Parallel()
	f := newDatabaseFleet(t, false)
	w := f.write()
	one := f.one
	w.flow(one)
	server := one.postgres()[0]
	for range 3 {
		before := one.processes("watchdog", one.dir)
		if len(before) != 1 {
			t.Fatalf("watchdogs: %v", before)
		}
		signalAll(before, syscall.SIGKILL)
		slowly(t, "another watchdog", func() (bool, string) {
			now := one.processes("watchdog", one.dir)
			return len(now) == 1 && now[0] != before[0], "there is none"
		})
		w.flow(one)
	}
	if one.postgres()[0] != server {
		t.Error("the database was ended")
	}

	// Stopped in order it gives back its lease, which others need not wait for.
	one.signal(syscall.SIGTERM)
	one.ended()
	if !strings.Contains(one.log.String(), "gave back the lease of the database") {
		t.Errorf("a node that was stopped in order kept its lease: %s", one.log.tail(3000))
	}
	over := time.Now()
	if left := one.postgres(); len(left) > 0 {
		t.Errorf("its database goes on: %v", left)
	}
	f.two.untilNobody()
	t.Logf("the lease was gone %s after the end of the process", time.Since(over).Round(time.Millisecond))
	one.start()
	w.flow(one)
	w.end()
	w.kept(one)
}
