//go:build faults

package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/backup"
)

// points are the backups of the database that the node knows of, oldest first.
func (g *guarded) points() (all []backup.Point) {
	g.t.Helper()
	var list []backup.Point
	out := g.say("backup", "list", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	for _, p := range list {
		if p.Subject == backup.Database {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b backup.Point) int { return a.Stopped.Compare(b.Stopped) })
	return all
}

// ended waits for a command, and returns what it said.
func (g *guarded) ended(b *began) said {
	g.t.Helper()
	select {
	case s := <-b.done:
		return s
	case <-time.After(3 * patience):
		g.t.Fatal("a command does not end")
		return said{}
	}
}

// waits begins a command, and returns when it has said that it waits for
// another of its kind.
func (g *guarded) waits(args ...string) *began {
	g.t.Helper()
	text := &logBuffer{}
	b := &began{cmd: g.command(args...), done: make(chan said, 1)}
	b.cmd.Stderr = text
	if err := b.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() {
		_ = b.cmd.Wait()
		b.done <- said{"", text.String(), b.cmd.ProcessState.ExitCode()}
	}()
	g.t.Cleanup(func() { _ = b.cmd.Process.Kill() })
	await(g.t, strings.Join(args, " ")+" to say that it waits", func() (bool, string) {
		return strings.Contains(text.String(), "Waiting for one that is running already"), text.String()
	})
	return b
}

// Of two starts of the same backup one is made and the other says so: of two
// commands, of a command and the schedule, and of two nodes at one target, of
// which the second is refused for good.
func TestTwoStartsOfTheSameBackupAreOne(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; the full pass runs it")
	}
	t.Parallel()
	g := newGuarded(t, shelf(t))
	hold := g.hold("restic", "backup")
	g.start()
	hold.reached() // of the schedule's first job
	if r := g.running("files"); !r.Scheduled {
		t.Fatalf("what runs is %+v, want the schedule's", r)
	}
	g.refusesSecond(backup.Files)
	second := g.waits("backup", "run", "files")
	g.letGo()
	if s := g.ended(second); s.code != 0 {
		t.Errorf("the command after the schedule ended with %d: %s%s", s.code, s.out, s.err)
	}
	g.proven()

	before := len(g.points())
	hold = g.hold("pgbackrest", "backup")
	first := g.begin("backup", "run", "database", "--type", "full")
	hold.reached()
	g.refusesSecond(backup.Database)
	second = g.waits("backup", "run", "database", "--type", "full")
	g.strangerIsRefused()
	g.letGo()
	for name, b := range map[string]*began{"first": first, "second": second} {
		if s := g.ended(b); s.code != 0 {
			t.Errorf("the %s of two: exit code %d: %s%s", name, s.code, s.out, s.err)
		}
	}
	if n := len(g.points()); n != before+2 {
		t.Errorf("%d backups after two more, %d before", n, before)
	}
	g.say("backup", "verify")
	g.passes("after all of it")
}

// running is the run of a subject that is being made.
func (g *guarded) running(subject backup.Subject) (r backup.Run) {
	g.t.Helper()
	s, _ := g.status()
	for _, j := range s.Running {
		for _, r := range j.Runs {
			if r.Subject == subject && r.State == backup.Running {
				return r
			}
		}
	}
	g.t.Fatalf("no run of the %s among %+v", subject, s.Running)
	return r
}

// refusesSecond asks for what is being made already.
func (g *guarded) refusesSecond(subject backup.Subject) {
	g.t.Helper()
	err := g.call("POST", "/api/v1/backups", backup.Request{Subjects: []backup.Subject{subject}}, nil)
	if err == nil || !strings.Contains(err.Error(), "backup-running") || !strings.Contains(err.Error(), "is running already") {
		g.t.Errorf("a second run of the %s: %v", subject, err)
	}
}

// strangerIsRefused starts another node that backs up to the same place.
func (g *guarded) strangerIsRefused() {
	g.t.Helper()
	other := newGuarded(g.t, g.target)
	other.start()
	other.fails("repository-", "backup", "run", "database")
	other.fails("repository-", "backup", "run", "files")
	if s, code := other.status(); code == 0 || s.CanRestore.Outcome == backup.Pass {
		g.t.Errorf("a node whose backups are refused says %d, %+v", code, s.CanRestore)
	}
	other.kill()
}

// aging puts a program in the place of pgBackRest that is honest, but says of
// backups that are named that they are old, and that stands still behind each
// step of an expiry while a test wants it to.
type aging struct{ dir string }

func newAging(t *testing.T) (a aging, env string) {
	t.Helper()
	honest, err := exec.LookPath("pgbackrest")
	if err != nil {
		t.Skip("pgbackrest is not installed")
	}
	a = aging{tempDir(t)}
	script := strings.NewReplacer("HONEST", honest, "DIR", a.dir).Replace(`#!/bin/sh
for command; do :; done
case $command in
info)
	text=$(HONEST "$@")
	code=$?
	printf '%s\n' "$text" | sed -f DIR/older
	exit $code
	;;
expire)
	HONEST "$@"
	code=$?
	[ -e DIR/held ] && read -r word <DIR/gate
	exit $code
	;;
esac
exec HONEST "$@"
`)
	err = errors.Join(os.WriteFile(filepath.Join(a.dir, "pgbackrest"), []byte(script), 0o755),
		os.WriteFile(filepath.Join(a.dir, "older"), nil, 0o644), unix.Mkfifo(filepath.Join(a.dir, "gate"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return a, "PATH=" + a.dir + ":" + os.Getenv("PATH")
}

// older makes backups older by days.
func (a aging) older(t *testing.T, days int, points ...backup.Point) {
	t.Helper()
	var b strings.Builder
	for _, p := range points {
		for _, at := range []time.Time{p.Started, p.Stopped} {
			fmt.Fprintf(&b, "s/\\(\"st[a-z]*\":\\)%d\\b/\\1%d/g\n", at.Unix(), at.AddDate(0, 0, -days).Unix())
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "older"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// hold has the next expiry stand still behind each of its steps, or not.
func (a aging) hold(t *testing.T, still bool) {
	t.Helper()
	path := filepath.Join(a.dir, "held")
	if !still {
		_ = os.Remove(path)
	} else if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// behind waits until an expiry stands behind one of its steps, and returns
// what lets it go on when closed. nil: the command has ended before.
func (a aging) behind(t *testing.T, b *began) *os.File {
	t.Helper()
	for began := time.Now(); time.Since(began) < 3*patience; pass(glance) {
		// A FIFO that nobody reads is not opened for writing (fifo(7), ENXIO).
		if f, err := os.OpenFile(filepath.Join(a.dir, "gate"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			return f
		}
		select {
		case s := <-b.done:
			b.done <- s
			return nil
		default:
		}
	}
	t.Fatal("the expiry neither gets on nor ends")
	return nil
}

// A node that is killed behind any step of an expiry has lost no good backup,
// and the next expiry removes the rest.
func TestANodeIsKilledDuringExpiriesAndLosesNoGoodBackup(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; the full pass runs it")
	}
	t.Parallel()
	a, env := newAging(t)
	g := newGuarded(t, shelf(t))
	g.env = []string{env}
	g.proven()
	for range 3 {
		g.say("backup", "run", "database", "--type", "full")
	}
	all := g.points()
	if len(all) != 4 {
		t.Fatalf("%d backups, want 4: %+v", len(all), all)
	}
	a.older(t, 40, all[:3]...)
	good := []string{all[2].Label, all[3].Label} // the oldest day needs the one, and the other is young

	kills := 0
	for a.hold(t, true); ; kills++ {
		job := g.begin("backup", "expire")
		gate := a.behind(t, job)
		if gate == nil {
			t.Fatalf("after %d kills an expiry ended that was to be held: %+v", kills, <-job.done)
		}
		held := g.engines("sh", "expire")
		g.kill()
		job.lost(t)
		await(t, "the engine to die with the node", func() (bool, string) {
			return !slices.ContainsFunc(held, alive), fmt.Sprintf("%v", held)
		})
		_ = gate.Close()
		g.start()
		await(t, "the expiry to be called interrupted", func() (bool, string) {
			r := g.last("expire")
			return r.State == backup.Interrupted && r.Reason != "" && r.Mend != "", fmt.Sprintf("%+v", r)
		})
		if kills == 2 { // two backups and the log before the oldest that stays
			break
		}
	}
	a.hold(t, false)
	g.passes("between two expiries")
	g.say("backup", "verify")
	g.say("backup", "expire")
	var left []string
	for _, p := range g.points() {
		if p.Gone == nil {
			left = append(left, p.Label)
		}
	}
	if !slices.Equal(left, good) {
		t.Errorf("left are %q, want %q", left, good)
	}
	g.say("backup", "verify")
	g.passes("after the last expiry")
	g.green("can-I-restore to be yes")
}

// A target that goes in the middle of a backup fails that run, and no other:
// people are told, nothing half-made counts, and the next run is good.
func TestATargetGoesInTheMiddleOfABackupAndComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; the full pass runs it")
	}
	t.Parallel()
	g := newGuarded(t, shelf(t))
	g.proven()
	before := g.points()
	for _, c := range []struct{ program, subject string }{{"pgbackrest", "database"}, {"restic", "files"}} {
		hold := g.hold(c.program, "backup")
		job := g.begin("backup", "run", c.subject, "--json")
		hold.reached()
		back := move(t, g.target, g.target+".away")
		g.letGo()
		s := g.ended(job)
		var j backup.Job
		if err := json.Unmarshal([]byte(s.out), &j); err != nil || s.code == 0 {
			t.Fatalf("%s: it ended with %d: %s%s", c.subject, s.code, s.out, s.err)
		}
		g.failed("target-", j)
		st, _ := g.status()
		if !slices.ContainsFunc(st.Problems, func(p backup.Problem) bool {
			return p.Code == "backup-target-failing" && p.Severity == "critical" && p.Mend != ""
		}) {
			t.Errorf("%s: the target is not among the problems: %+v", c.subject, st.Problems)
		}
		await(t, c.subject+": people to be told", func() (bool, string) {
			raised := g.run("audit", "list", "--json", "--act", "alarm.raise")
			told := g.run("notify", "list", "--json")
			return strings.Contains(raised.out, "backup-target-failing.shelf") && strings.Contains(told.out, "alarm"), raised.out + raised.err + told.out
		})
		_ = os.RemoveAll(g.target) // an engine makes directories anew before it is stopped: below the mount, in life
		back()
		g.caughtUp(c.subject + ": gone in the middle")
		g.say("backup", "run", c.subject)
	}
	if now := g.points(); len(now) != len(before)+1 {
		t.Errorf("%d backups of the database after one was cut off and one was made, %d before", len(now), len(before))
	}
	g.say("backup", "verify")
	g.passes("after it was back")
	g.green("can-I-restore to be yes")
}
