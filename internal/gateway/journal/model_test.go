package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// memoryDir is a directory that is quick to sync, for tests in which no power fails.
func memoryDir(t interface {
	Cleanup(func())
	Fatal(...any)
}) string {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "journal")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// world is a journal and what is known about it from outside.
type world struct {
	dir   string
	j     *Journal
	o     Options
	clock atomic.Int64
	fault atomic.Pointer[func(op, file string) error]

	written  map[Position]string // everything that got a number
	promised map[Position]bool   // acknowledged or read: has to stay
	released Position            // up to here it may be gone
	open     []Ticket
}

func (w *world) start(t *rapid.T) {
	seal, open := kek("test")
	w.o = Options{Node: 7, Boot: w.o.Boot + 1, Seal: seal, Open: open, SegmentBytes: 64 << 10, MaxBytes: 512 << 10,
		Now: func() time.Time { return time.Unix(1_000_000, w.clock.Load()) },
		Intercept: func(op, file string) error {
			if f := w.fault.Load(); f != nil {
				return (*f)(op, file)
			}
			return nil
		}}
	j, err := Open(w.dir, w.o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	w.j = j
}

// settle waits for the open tickets.
func (w *world) settle(t *rapid.T) {
	for _, tk := range w.open {
		switch err := tk.Wait(context.Background()); {
		case err == nil:
			w.promised[Position{w.o.Boot, tk.Seq()}] = true
		case !errors.Is(err, ErrFull) && !errors.Is(err, ErrBroken):
			t.Fatalf("Wait: %v", err)
		}
	}
	w.open = nil
}

func (w *world) append(t *rapid.T) {
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		record := strings.Repeat(rapid.StringN(0, 5, 20).Draw(t, "text"), rapid.SampledFrom([]int{1, 1, 30, 400}).Draw(t, "times"))
		tk, err := w.j.Append([]byte(record))
		if err != nil {
			if !errors.Is(err, ErrFull) && !errors.Is(err, ErrBroken) && !errors.Is(err, ErrOverloaded) {
				t.Fatalf("Append: %v", err)
			}
			return
		}
		at := Position{w.o.Boot, tk.Seq()}
		if _, again := w.written[at]; again {
			t.Fatalf("number %v was given twice", at)
		}
		w.written[at] = record
		w.open = append(w.open, tk)
	}
}

// read reads from a random promised position to the end, or a few.
func (w *world) read(t *rapid.T, from Position) []Position {
	var at []Position
	after, most := from, rapid.IntRange(1, 50).Draw(t, "most")
	for {
		n := len(at)
		pos, err := w.j.Read(after, most, rapid.IntRange(1, 20_000).Draw(t, "bytes"), func(e Entry) error {
			p := Position{e.Boot, e.Seq}
			if want, ok := w.written[p]; !ok || want != string(e.Record) || e.Node != 7 {
				t.Fatalf("read %v %.30q, wrote %.30q", p, e.Record, want)
			}
			if len(at) > 0 && !at[len(at)-1].Before(p) || !after.Before(p) {
				t.Fatalf("read %v after %v", p, at)
			}
			at = append(at, p)
			return nil
		})
		if err != nil {
			t.Fatalf("Read after %v: %v", after, err)
		}
		if len(at) == n {
			return at
		}
		if pos != at[len(at)-1] {
			t.Fatalf("Read returned %v after delivering %v", pos, at[len(at)-1])
		}
		after = pos
	}
}

func (w *world) positions() []Position {
	var all []Position
	for p := range w.promised {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Position) int {
		if a.Before(b) {
			return -1
		}
		return 1
	})
	return all
}

// check reads everything and compares it with what was promised.
func (w *world) check(t *rapid.T) {
	w.settle(t)
	seen := map[Position]bool{}
	for _, p := range w.read(t, Position{}) {
		seen[p], w.promised[p] = true, true
	}
	for p := range w.promised {
		if w.released.Before(p) && !seen[p] {
			t.Fatalf("%v was promised and is gone", p)
		}
	}
	if st := w.j.Stats(); len(st.Damaged) != 0 || st.Bytes > w.o.MaxBytes {
		t.Fatalf("Stats: %+v", st)
	}
}

func (w *world) die(t *rapid.T, power bool) {
	// From some operation on nothing reaches the disk any more.
	left := rapid.IntRange(0, 3).Draw(t, "operations until death")
	var n atomic.Int32
	dead := func(op, _ string) error {
		if int(n.Add(1)) > left {
			return syscall.EIO
		}
		return nil
	}
	w.settle(t)
	live, end := "", int64(0)
	if w.j.live != nil {
		live, end = filepath.Join(w.dir, w.j.live.name), w.j.live.end
	}
	durable := w.j.Durable()
	w.fault.Store(&dead)
	w.append(t)
	w.settle(t)
	_ = w.j.Close(context.Background())
	w.fault.Store(nil)
	if power && live != "" && w.j.Durable() == durable {
		scramble(t, live, end)
	}
}

// scramble does to the unsynced end of a segment what a power failure may do.
func scramble(t *rapid.T, name string, end int64) {
	b, err := os.ReadFile(name)
	if err != nil || int64(len(b)) <= end {
		return
	}
	tail := b[end:]
	switch rapid.SampledFrom([]string{"lost", "cut", "page lost", "page kept"}).Draw(t, "power failure") {
	case "lost":
		clear(tail)
	case "cut":
		b = b[:end+int64(rapid.IntRange(0, len(tail)).Draw(t, "at"))]
	case "page lost":
		at := rapid.IntRange(0, len(tail)/512).Draw(t, "page") * 512
		clear(tail[at:min(len(tail), at+512)])
	case "page kept":
		at := rapid.IntRange(0, len(tail)/512).Draw(t, "page") * 512
		clear(tail[:at])
		clear(tail[min(len(tail), at+512):])
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever is done and whatever fails: what was acknowledged is read back,
// once, in order, with its content, until it is released.
func TestTheJournalAgreesWithASimpleModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{dir: memoryDir(t), written: map[Position]string{}, promised: map[Position]bool{}}
		w.start(t)
		defer func() { w.fault.Store(nil); _ = w.j.Close(context.Background()) }()
		again := func() { w.open = nil; w.start(t) }
		t.Repeat(map[string]func(*rapid.T){
			"append":      w.append,
			"append more": w.append,
			"settle":      w.settle,
			"advance":     func(t *rapid.T) { w.clock.Add(int64(retryEvery)) },
			"read from somewhere": func(t *rapid.T) {
				w.settle(t)
				if all := w.positions(); len(all) > 0 {
					w.read(t, rapid.SampledFrom(all).Draw(t, "from"))
				}
			},
			"release": func(t *rapid.T) {
				if all := w.positions(); len(all) > 0 {
					p := rapid.SampledFrom(all).Draw(t, "up to")
					if err := w.j.Release(p); err != nil {
						t.Fatalf("Release %v: %v", p, err)
					}
					if w.released.Before(p) {
						w.released = p
					}
				}
			},
			"close and open": func(t *rapid.T) {
				if err := w.j.Close(context.Background()); err != nil && w.j.broken == nil {
					t.Fatalf("Close: %v", err)
				}
				w.settle(t)
				again()
			},
			"kill -9":       func(t *rapid.T) { w.die(t, false); again() },
			"power failure": func(t *rapid.T) { w.die(t, true); again() },
			"one failure": func(t *rapid.T) {
				op := rapid.SampledFrom([]string{"sync", "write", "allocate", "truncate", "rename"}).Draw(t, "op")
				errno := rapid.SampledFrom([]error{syscall.EIO, syscall.ENOSPC}).Draw(t, "errno")
				var done atomic.Bool
				fail := func(o, _ string) error {
					if o == op && !done.Swap(true) {
						return errno
					}
					return nil
				}
				w.settle(t)
				w.fault.Store(&fail)
				w.append(t)
				w.settle(t)
				w.fault.Store(nil)
			},
			"": w.check,
		})
	})
}
