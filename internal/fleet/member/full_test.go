package member_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// onSmallDisks starts three members, each on a file system of its own.
func onSmallDisks(t *testing.T, room int64) *membertest.Fleet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small file system is mounted by root only")
	}
	return membertest.StartWith(t, 3, func(_ int, o *member.Options) {
		disk := t.TempDir()
		if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=128m,mode=0700"); err != nil {
			t.Skipf("no file system can be mounted here: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
		o.Dir, o.Room = filepath.Join(disk, "fleet"), room
	})
}

// fill leaves no byte on the disk of a member, and returns what empties it.
func fill(t *testing.T, o member.Options) (empty func()) {
	t.Helper()
	path := filepath.Join(filepath.Dir(o.Dir), "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := 1 << 20; block >= 512; {
		if _, err := f.Write(make([]byte, block)); errors.Is(err, syscall.ENOSPC) {
			block /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func write(ctx context.Context, m *member.Member, path, text string) error {
	one, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := m.Store().Put(one, path, note{text})
	return err
}

// The disk of the leader fills while it runs. It says so, hands over, keeps
// what it has, and takes part again when there is room: nobody restarts it.
func TestALeaderWhoseDiskIsFullHandsOverAndComesBackByItself(t *testing.T) {
	faultsOnly(t)
	f := onSmallDisks(t, 0)
	full := f.Leader(t)
	other := (full + 1) % 3
	victim := f.Members[full]
	if err := write(t.Context(), f.Members[other], "verdicts/before", "before"); err != nil {
		t.Fatal(err)
	}
	term, err := victim.Lead(t.Context(), "leader")
	if err != nil {
		t.Fatal(err)
	}
	watched := victim.Store().Watch(t.Context(), "verdicts/", 0)
	empty := fill(t, f.Options[full])

	f.Await(t, "it says that its disk is full", func(ctx context.Context) bool {
		s := victim.Status(ctx)
		return !s.Majority && strings.Contains(s.Words, "disk is full") && strings.Contains(s.Words, "cannot write to its disk")
	})
	select {
	case <-term.Done():
	case <-time.After(membertest.Patience):
		t.Error("it still leads")
	}
	for range watched { // ends: nothing would ever be told
		t.Log("something was told")
	}
	for _, try := range []error{write(t.Context(), victim, "verdicts/full", "x"), func() error { _, err := victim.Store().GetLocal(t.Context(), "verdicts/before"); return err }()} {
		if code(try) != "fleet-disk-full" {
			t.Errorf("asked, it says %v", try)
		}
	}
	if _, err := victim.Snapshot(t.Context()); code(err) != "fleet-disk-full" {
		t.Errorf("asked for a snapshot, it says %v", err)
	}
	epoch := int64(0)
	f.Await(t, "another leads", func(ctx context.Context) bool {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		next, err := f.Members[other].Lead(one, "leader")
		if err == nil {
			epoch = next.Epoch()
		}
		return err == nil
	})
	if epoch <= term.Epoch() {
		t.Errorf("the epoch was %d and is %d", term.Epoch(), epoch)
	}
	// More than one segment of the log, so that it has to catch up.
	for n := range 40 {
		f.Await(t, "the others go on", func(ctx context.Context) bool {
			return write(ctx, f.Members[other], "seen/big", strings.Repeat(string(rune('a'+n%26)), 256<<10)) == nil
		})
	}
	if err := write(t.Context(), f.Members[other], "verdicts/after", "after"); err != nil {
		t.Error(err)
	}
	select {
	case <-victim.Done():
		t.Fatal("it has stopped for good")
	default:
	}

	empty()
	f.Await(t, "all three vote again", func(ctx context.Context) bool {
		s := victim.Status(ctx)
		return s.Majority && s.Answer == 3
	})
	f.Await(t, "it has what was written meanwhile", func(ctx context.Context) bool {
		e, err := victim.Store().GetLocal(ctx, "verdicts/after")
		var n note
		return err == nil && e.Decode(&n) == nil && n.Text == "after"
	})
	f.Await(t, "it writes again", func(ctx context.Context) bool { return write(ctx, victim, "verdicts/full", "again") == nil })
	f.Await(t, "its presence stands again", func(context.Context) bool { return victim.Presence() != nil })
}

// A store that did come to write on a full disk stops for good with its locks
// held. Then the member ends and says so; the process, which may be a gateway
// too, answers, the others go on, and after a restart with room it votes again.
func TestAStoreThatFailsOnAFullDiskEndsTheMemberAndNotTheProcess(t *testing.T) {
	faultsOnly(t)
	f := onSmallDisks(t, -1)
	full := f.Leader(t)
	other := (full + 1) % 3
	victim := f.Members[full]
	empty := fill(t, f.Options[full])
	ended := false
	f.Await(t, "the full member stops", func(ctx context.Context) bool {
		_ = write(ctx, f.Members[other], "seen/big", strings.Repeat("x", 256<<10))
		select {
		case <-victim.Done():
			ended = true
		default:
		}
		return ended
	})
	for range 20 { // whoever asks is answered, whatever locks are held
		ctx, cancel := context.WithTimeout(t.Context(), membertest.Patience)
		if s := victim.Status(ctx); s.Majority || !strings.Contains(s.Words, "cannot write to its disk") {
			t.Fatalf("said %q", s.Words)
		}
		if _, err := victim.Store().GetLocal(ctx, "seen/big"); err == nil {
			t.Error("it answers from a store that has failed")
		}
		cancel()
	}
	f.Await(t, "the others go on", func(ctx context.Context) bool { return write(ctx, f.Members[other], "verdicts/x", "after") == nil })
	ctx, cancel := context.WithTimeout(t.Context(), membertest.Patience)
	defer cancel()
	if err := victim.Stop(ctx); code(err) != "fleet-member-failed" {
		t.Fatalf("got %v", err)
	}
	f.Members[full] = nil
	empty()
	// As another process finds it: this one may hold its files for ever.
	again := filepath.Join(filepath.Dir(f.Options[full].Dir), "again")
	if err := os.CopyFS(again, os.DirFS(f.Options[full].Dir)); err != nil {
		t.Fatal(err)
	}
	f.Options[full].Dir = again
	free := membertest.Free(t, 3) // nor does it let its doors go
	f.Options[full].Listen = member.Addresses{Peers: free[0], Clients: free[1], Join: free[2]}
	f.Restart(t, full)
	f.Await(t, "it votes again, with what was written meanwhile", func(ctx context.Context) bool {
		s := f.Members[full].Status(ctx)
		e, err := f.Members[full].Store().GetLocal(ctx, "verdicts/x")
		var n note
		return s.Majority && s.Answer == 3 && err == nil && e.Decode(&n) == nil && n.Text == "after"
	})
}
