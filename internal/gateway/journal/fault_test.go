package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// faults fails chosen operations on segments.
type faults struct {
	mu    sync.Mutex
	fail  func(op, file string) error
	calls []string
}

func (f *faults) intercept(op, file string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, op+" "+file)
	if f.fail == nil {
		return nil
	}
	return f.fail(op, file)
}

func (f *faults) set(fail func(op, file string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.calls = fail, nil
}

// once fails the next call of an operation.
func (f *faults) once(op string, err error) {
	done := false
	f.set(func(o, _ string) error {
		if o == op && !done {
			done = true
			return err
		}
		return nil
	})
}

func TestAFailedSyncIsNeverRepeatedOnTheSameSegment(t *testing.T) {
	for _, op := range []string{"sync", "write"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			var f faults
			o := options(1)
			o.Intercept = f.intercept
			j := mustOpen(t, dir, o)
			fill(t, j, 3, 100)
			old := filepath.Base(segments(t, dir)[0])
			f.once(op, syscall.EIO)
			fill(t, j, 1, 100) // acknowledged all the same: it was written anew
			f.mu.Lock()
			failed := false
			for _, call := range f.calls {
				if failed && (call == "sync "+old || call == "write "+old) {
					t.Errorf("%q after a failure", call)
				}
				failed = failed || call == op+" "+old
			}
			f.mu.Unlock()
			f.set(nil)
			fill(t, j, 3, 100)
			if st := j.Stats(); st.Retired != 1 || st.Segments != 2 || st.Failure != nil {
				t.Fatalf("Stats: %+v", st)
			}
			readAll(t, j, Position{}).want(t, span(1, 1, 7)...)
			mustClose(t, j)
			g := readAll(t, mustOpen(t, dir, options(2)), Position{})
			g.want(t, span(1, 1, 7)...)
			if len(g.damage) != 0 {
				t.Fatalf("damage: %v", g.damage)
			}
		})
	}
}

// The batch whose sync failed may be whole in the segment that was given up,
// and the truncation may fail too: it must not be read twice.
func TestABatchWrittenAnewIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	var f faults
	o := options(1)
	o.Intercept = f.intercept
	j := mustOpen(t, dir, o)
	fill(t, j, 3, 100)
	failed := false
	f.set(func(op, _ string) error {
		if op == "sync" && !failed {
			failed = true
			return syscall.EIO
		}
		if op == "truncate" {
			return syscall.EIO
		}
		return nil
	})
	fill(t, j, 3, 100)
	f.set(nil)
	readAll(t, j, Position{}).want(t, span(1, 1, 6)...)
	mustClose(t, j)
	g := readAll(t, mustOpen(t, dir, options(2)), Position{})
	g.want(t, span(1, 1, 6)...)
	_, open := kek("test")
	reports, err := Inspect(dir, open)
	must(t, err)
	for _, r := range reports[:2] {
		if r.State != StateOK || r.Records != 3 {
			t.Errorf("%+v", r)
		}
	}
}

func TestADiskThatFailsTwiceBreaksTheJournal(t *testing.T) {
	for _, op := range []string{"sync", "write", "sync-dir"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			var f faults
			o := options(1)
			o.Intercept = f.intercept
			j := mustOpen(t, dir, o)
			fill(t, j, 3, 100)
			f.set(func(o, _ string) error {
				if o == op || o == "sync" {
					return syscall.EIO
				}
				return nil
			})
			tk, err := j.Append([]byte(content(1, 4, 0)))
			must(t, err)
			if err := tk.Wait(t.Context()); !errors.Is(err, ErrBroken) {
				t.Fatalf("Wait: %v", err)
			}
			f.set(nil) // the disk seems well again: too late
			if _, err := j.Append(nil); !errors.Is(err, ErrBroken) {
				t.Fatalf("Append: %v", err)
			}
			if st := j.Stats(); !errors.Is(st.Failure, ErrBroken) || st.Durable != 3 {
				t.Fatalf("Stats: %+v", st)
			}
			readAll(t, j, Position{}).want(t, span(1, 1, 3)...) // shipping goes on
			mustClose(t, j)
			// The fate of the fourth is open, that of the others is not.
			j = mustOpen(t, dir, options(2))
			g := readAll(t, j, Position{})
			if len(g.at) != 3 && len(g.at) != 4 || len(g.damage) != 0 {
				t.Fatalf("read %v, damage %v", g.at, g.damage)
			}
			g.want(t, span(1, 1, uint64(len(g.at)))...)
			put(t, j, content(2, 1, 0))
		})
	}
}

func TestWhatWaitsWhenTheJournalBreaksIsTold(t *testing.T) {
	var f faults
	o := options(1)
	o.Intercept = f.intercept
	j := mustOpen(t, t.TempDir(), o)
	entered, release := make(chan struct{}), make(chan struct{})
	var n atomic.Int32
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	j.dir.intercept = func(op, file string) error { // the committer is idle
		if op != "sync" {
			return nil
		}
		if n.Add(1) == 1 {
			close(entered)
			<-release
		}
		return syscall.EIO
	}
	first, err := j.Append([]byte("a"))
	must(t, err)
	<-entered
	second, err := j.Append([]byte("b"))
	must(t, err)
	close(release)
	for _, tk := range []Ticket{first, second} {
		if err := tk.Wait(t.Context()); !errors.Is(err, ErrBroken) {
			t.Errorf("record %d: %v", tk.Seq(), err)
		}
	}
}

func TestAFullDiskIsSurvived(t *testing.T) {
	for _, op := range []string{"allocate", "write"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			var f faults
			o := options(1)
			o.Intercept = f.intercept
			var clock atomic.Int64
			o.Now = func() time.Time { return time.Unix(1_000_000, clock.Load()) }
			j := mustOpen(t, dir, o)
			fill(t, j, 3, 100)
			f.set(func(o, file string) error {
				if o == op && (op != "write" || !strings.HasSuffix(file, temporarySuffix)) || o == "allocate" {
					return syscall.ENOSPC
				}
				return nil
			})
			var err error
			var refused uint64
			for err == nil {
				var tk Ticket
				if tk, err = j.Append([]byte(content(1, j.Durable()+1, 9000))); err == nil {
					refused = tk.Seq()
					err = tk.Wait(t.Context())
				}
			}
			if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("full: %v", err)
			}
			if _, err := j.Append(nil); !errors.Is(err, ErrFull) {
				t.Fatalf("Append at once after: %v", err)
			}
			kept := j.Durable()
			clock.Add(int64(retryEvery))
			tk, err := j.Append(make([]byte, 9000)) // tries, and fails
			must(t, err)
			if err := tk.Wait(t.Context()); !errors.Is(err, ErrFull) {
				t.Fatalf("still full: %v", err)
			}
			f.set(nil)
			clock.Add(int64(retryEvery))
			next := put(t, j, content(1, refused+2, 0))
			if next != refused+2 {
				t.Fatalf("number %d, want %d: the refused ones keep theirs", next, refused+2)
			}
			if st := j.Stats(); st.Failure != nil {
				t.Fatalf("Stats after recovering: %v", st.Failure)
			}
			want := append(span(1, 1, kept), Position{1, next})
			readAll(t, j, Position{}).want(t, want...)
			mustClose(t, j)
			g := readAll(t, mustOpen(t, dir, options(2)), Position{})
			g.want(t, want...)
			if len(g.damage) != 0 {
				t.Fatalf("damage: %v", g.damage)
			}
		})
	}
}

func TestMaxBytesHoldsAndReleaseMakesRoom(t *testing.T) {
	dir := t.TempDir()
	o := options(1)
	o.MaxBytes = 4 * o.SegmentBytes
	j := mustOpen(t, dir, o)
	total := uint64(0)
	for range 3 {
		var err error
		for err == nil {
			var tk Ticket
			if tk, err = j.Append([]byte(content(1, total+1, 5000))); err == nil {
				must(t, tk.Wait(t.Context())) // no room is said before a number is given
				total++
			}
		}
		if !errors.Is(err, ErrFull) {
			t.Fatalf("after %d records: %v", total, err)
		}
		var size int64
		for _, n := range segments(t, dir) {
			info, err := os.Stat(n)
			must(t, err)
			size += info.Size()
		}
		st := j.Stats()
		if size > o.MaxBytes || st.Bytes != size {
			t.Fatalf("%d bytes on disk, Stats says %d, limit %d", size, st.Bytes, o.MaxBytes)
		}
		if !st.Unreleased || st.Segments != 4 {
			t.Fatalf("Stats: %+v", st)
		}
		must(t, j.Release(Position{1, j.Durable()}))
		if st := j.Stats(); st.Unreleased || st.Segments != 1 {
			t.Fatalf("after release: %+v", st)
		}
		if total != j.next-1 {
			t.Fatalf("%d records, %d numbers", total, j.next-1)
		}
	}
}

func TestAJournalAtItsLimitOpensSoThatItCanShip(t *testing.T) {
	dir := t.TempDir()
	o := options(1)
	o.MaxBytes = 2 * o.SegmentBytes
	j := mustOpen(t, dir, o)
	for {
		tk, err := j.Append([]byte(content(1, j.Durable()+1, 3000)))
		if err == nil {
			err = tk.Wait(t.Context())
		}
		if err != nil {
			break
		}
	}
	last := j.Durable()
	mustClose(t, j)
	o.Boot = 2
	j = mustOpen(t, dir, o)
	if _, err := j.Append(nil); !errors.Is(err, ErrFull) {
		t.Fatalf("Append: %v", err)
	}
	readAll(t, j, Position{}).want(t, span(1, 1, last)...)
	must(t, j.Release(Position{1, last}))
	if seq := put(t, j, content(2, 1, 0)); seq != 1 {
		t.Fatalf("number %d", seq)
	}
	mustClose(t, j)
	readAll(t, mustOpen(t, dir, options(3)), Position{1, last}).want(t, Position{2, 1})
}

// A full file system, and not one that was told to say so.
func TestAFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("mounting a small file system is not allowed: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	var clock atomic.Int64
	o := options(1)
	o.Now = func() time.Time { return time.Unix(1_000_000, clock.Load()) }
	j, err := Open(dir, o)
	must(t, err)
	defer j.Close(context.Background())
	write := func() (uint64, error) {
		tk, err := j.Append([]byte(content(1, j.next, 3000)))
		if err != nil {
			return 0, err
		}
		return tk.Seq(), tk.Wait(t.Context())
	}
	var want []Position
	for {
		seq, err := write()
		if errors.Is(err, ErrFull) {
			break
		}
		must(t, err)
		want = append(want, Position{1, seq})
	}
	if len(want) < 50 {
		t.Fatalf("full after %d records", len(want))
	}
	readAll(t, j, Position{}).want(t, want...)
	must(t, j.Release(want[len(want)/2]))
	clock.Add(int64(retryEvery))
	for range 20 {
		seq, err := write()
		must(t, err)
		want = append(want, Position{1, seq})
	}
	readAll(t, j, want[len(want)/2]).want(t, want[len(want)/2+1:]...)
	must(t, j.Close(context.Background()))
	o.Boot = 2
	j2, err := Open(dir, o)
	must(t, err)
	defer j2.Close(context.Background())
	readAll(t, j2, want[len(want)/2]).want(t, want[len(want)/2+1:]...)
}

func TestACreationCutShortAtAnyStepIsHarmless(t *testing.T) {
	for _, op := range []string{"allocate", "write", "sync", "rename", "sync-dir", "truncate"} {
		t.Run(op, func(t *testing.T) {
			dir := t.TempDir()
			var f faults
			o := options(1)
			o.Intercept = f.intercept
			j := mustOpen(t, dir, o)
			fill(t, j, 3, 100)
			dead := false
			f.set(func(o, file string) error {
				// From this step of the next segment's creation on, nothing reaches the disk.
				if dead = dead || o == op && (strings.HasSuffix(file, temporarySuffix) || o != "write" && o != "sync"); dead {
					return syscall.EIO
				}
				return nil
			})
			for {
				tk, err := j.Append([]byte(content(1, j.Durable()+1, 9000)))
				if err == nil {
					err = tk.Wait(t.Context())
				}
				if err != nil || op == "truncate" && len(segments(t, dir)) > 1 {
					break
				}
			}
			last := j.Durable()
			_ = j.Close(context.Background())
			j = mustOpen(t, dir, options(2))
			g := readAll(t, j, Position{})
			if len(g.damage) != 0 || uint64(len(g.at)) < last {
				t.Fatalf("read %d of %d, damage %v", len(g.at), last, g.damage)
			}
			g.want(t, span(1, 1, uint64(len(g.at)))...)
			put(t, j, content(2, 1, 0))
			mustClose(t, j)
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+temporarySuffix)); len(left) != 0 {
				t.Fatalf("left behind: %v", left)
			}
		})
	}
}

// A segment may get its name and then not be used, because the directory could
// not be synced. The next one follows the segment before it.
func TestASegmentThatWasNeverUsedIsRemoved(t *testing.T) {
	dir := t.TempDir()
	var f faults
	o := options(1)
	o.Intercept = f.intercept
	j := mustOpen(t, dir, o)
	fill(t, j, 3, 100)
	failed := false
	f.set(func(op, file string) error {
		if op == "remove" {
			return syscall.EIO
		}
		if op == "sync-dir" && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	fill(t, j, 20, 4000)
	f.set(nil)
	mustClose(t, j)
	if !failed {
		t.Fatal("the journal did not rotate")
	}
	before := len(segments(t, dir))
	j = mustOpen(t, dir, options(2))
	g := readAll(t, j, Position{})
	g.want(t, span(1, 1, 23)...)
	if len(g.damage) != 0 {
		t.Fatalf("damage: %v", g.damage)
	}
	if after := len(segments(t, dir)); after != before { // one removed, one begun
		t.Fatalf("%d segments before, %d after", before, after)
	}
}
