package probe

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"pgregory.net/rapid"
)

var midnight = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

func memory(t testing.TB) *History {
	t.Helper()
	h, err := OpenHistory(HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func seen(at time.Time, probe string, ok bool) Result {
	r := Result{Probe: probe, Function: "f", Signal: TCP, At: at, OK: ok, Took: 20 * time.Millisecond, Words: "It answers.", Tries: 1}
	if !ok {
		r.Code, r.Words = Refused, "It refuses."
	}
	return r
}

func TestTimeInWhichNobodyLookedIsNotUptime(t *testing.T) {
	h := memory(t)
	at := func(minutes int) time.Time { return midnight.Add(time.Duration(minutes) * time.Minute) }
	h.Add(seen(at(0), "a", true), time.Minute)   // up 0–1, then nobody looks
	h.Add(seen(at(10), "a", true), time.Minute)  // up 10–11
	h.Add(seen(at(11), "a", false), time.Minute) // down 11–12
	h.Add(seen(at(12), "a", true), time.Minute)  // up 12–13
	u := h.Uptime("f", at(0), at(20))
	if u.Up != 3*time.Minute || u.Down != time.Minute || u.Unknown != 16*time.Minute || !u.From.Equal(at(0)) || !u.To.Equal(at(20)) {
		t.Fatalf("%+v", u)
	}
	if ratio, ok := u.Ratio(); !ok || ratio != 0.75 {
		t.Fatal(ratio, ok)
	}
	if _, ok := h.Uptime("f", at(30), at(40)).Ratio(); ok {
		t.Fatal("unknown time has a ratio")
	}
	if u := h.Uptime("nobody", at(0), at(1)); u.Unknown != time.Minute {
		t.Fatalf("%+v", u)
	}
	if out := h.Outages("f"); len(out) != 1 || !out[0].From.Equal(at(11)) || !out[0].To.Equal(at(12)) || out[0].Code != Refused || out[0].Words != "It refuses." {
		t.Fatalf("%+v", out)
	}
	if got := h.Recent("f", 2); len(got) != 2 || got[0].OK || !got[1].OK {
		t.Fatalf("%+v", got)
	}
	if up, known := h.State("f", at(12)); !up || !known {
		t.Fatal(up, known)
	}
	if _, known := h.State("f", at(14)); known {
		t.Fatal("what is over is known")
	}
}

func TestAFunctionWorksWhileAllOfItsProbesSaySo(t *testing.T) {
	h := memory(t)
	at := func(s int) time.Time { return midnight.Add(time.Duration(s) * time.Second) }
	h.Add(seen(at(0), "a", true), time.Hour)
	h.Add(seen(at(10), "b", false), time.Hour)
	inconclusive := seen(at(20), "b", false)
	inconclusive.Inconclusive = true
	h.Add(inconclusive, time.Hour) // says nothing, and takes nothing back
	h.Add(seen(at(30), "b", true), time.Hour)
	if u := h.Uptime("f", at(0), at(60)); u.Up != 40*time.Second || u.Down != 20*time.Second {
		t.Fatalf("%+v", u)
	}
}

func TestAClockThatGoesBackGivesNoTimeTwice(t *testing.T) {
	h := memory(t)
	for range 3 { // the same ten minutes, three times
		for m := range 10 {
			h.Add(seen(midnight.Add(time.Duration(m)*time.Minute), "a", true), time.Minute)
		}
	}
	if u := h.Uptime("f", midnight, midnight.Add(time.Hour)); u.Up != 10*time.Minute || u.Down != 0 {
		t.Fatalf("%+v", u)
	}
	h.Add(seen(midnight.Add(5*time.Minute), "a", false), time.Minute)
	h.Add(seen(midnight.Add(6*time.Minute), "a", true), time.Minute)
	if u := h.Uptime("f", midnight, midnight.Add(5*time.Minute)); u.Down != 0 {
		t.Fatalf("%+v", u)
	}
	if u := h.Uptime("f", midnight.Add(5*time.Minute), midnight.Add(7*time.Minute)); u.Down != time.Minute {
		t.Fatalf("a minute that was down when it was lived again is not: %+v", u)
	}
}

// model is what a history of one function must say, second by second, where
// the clock only goes on.
type model struct {
	probes map[string]probeState
	spent  []state // by second since midnight
}

// TestAHistoryIsWhatAPlainModelSays draws results in order, with gaps, and
// compares every total with one that is counted second by second.
func TestAHistoryIsWhatAPlainModelSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &History{records: map[string]*record{}}
		m := model{probes: map[string]probeState{}}
		now := 0
		step := func(to int) {
			for ; now < to; now++ {
				s := stateNone
				for _, p := range m.probes {
					if int(p.until) > now {
						s = max(s, p.state)
					}
				}
				m.spent = append(m.spent, s)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "results") {
			step(now + rapid.OneOf(rapid.IntRange(0, 90), rapid.IntRange(0, 5000)).Draw(t, "gap"))
			r := seen(midnight.Add(time.Duration(now)*time.Second), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "probe"), rapid.Bool().Draw(t, "ok"))
			r.Inconclusive = !r.OK && rapid.Bool().Draw(t, "inconclusive")
			valid := rapid.IntRange(0, 600).Draw(t, "valid")
			h.Add(r, time.Duration(valid)*time.Second)
			if !r.Inconclusive {
				s := stateDown
				if r.OK {
					s = stateUp
				}
				m.probes[r.Probe] = probeState{s, int64(now + valid)}
			}
		}
		step(now + rapid.IntRange(1, 4000).Draw(t, "after"))
		check := func(from, to int) {
			u := h.Uptime("f", midnight.Add(time.Duration(from)*time.Second), midnight.Add(time.Duration(to)*time.Second))
			first, last := int(u.From.Sub(midnight)/time.Second), int(u.To.Sub(midnight)/time.Second)
			if first > from || last < to || from-first > 86400 || last-to > 86400 {
				t.Fatalf("asked for %d to %d, told of %d to %d", from, to, first, last)
			}
			var up, down int
			for i := max(first, 0); i < min(last, len(m.spent)); i++ {
				switch m.spent[i] {
				case stateUp:
					up++
				case stateDown:
					down++
				}
			}
			if u.Up != time.Duration(up)*time.Second || u.Down != time.Duration(down)*time.Second || u.Up+u.Down+u.Unknown != u.To.Sub(u.From) {
				t.Fatalf("from %d to %d: %+v, the model says up %ds, down %ds", first, last, u, up, down)
			}
		}
		check(0, now)
		for range 5 {
			from := rapid.IntRange(0, now-1).Draw(t, "from")
			check(from, rapid.IntRange(from+1, now).Draw(t, "to"))
		}
		down := 0
		for i, s := range m.spent {
			if s == stateDown && (i == 0 || m.spent[i-1] != stateDown) {
				down++
			}
		}
		// An outage of no length, or two that touch, are told as they were seen.
		if got := len(h.Outages("f")); got < min(down, keptOutages) {
			t.Fatalf("%d outages, the model has %d", got, down)
		}
	})
}

// TestAHistoryHoldsTogetherWhateverTheClockDoes lets the clock go where it
// likes.
func TestAHistoryHoldsTogetherWhateverTheClockDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &History{records: map[string]*record{}}
		now := midnight
		var claimed time.Duration
		for range rapid.IntRange(1, 80).Draw(t, "results") {
			now = now.Add(time.Duration(rapid.OneOf(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)), rapid.Int64Range(-int64(60*24*time.Hour), int64(60*24*time.Hour))).Draw(t, "gap")))
			valid := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "valid"))
			h.Add(seen(now, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "probe"), rapid.Bool().Draw(t, "ok")), valid)
			claimed += valid
		}
		for range 5 {
			from := now.Add(time.Duration(rapid.Int64Range(-int64(100*24*time.Hour), int64(time.Hour)).Draw(t, "from")))
			to := from.Add(time.Duration(rapid.Int64Range(1, int64(100*24*time.Hour)).Draw(t, "length")))
			u := h.Uptime("f", from, to)
			if u.Up < 0 || u.Down < 0 || u.Unknown < 0 || u.Up+u.Down+u.Unknown != u.To.Sub(u.From) {
				t.Fatalf("%+v", u)
			}
			// No look says more than its validity, and each unit of time has one
			// length: what is claimed may be counted by days and by hours of
			// them, never more.
			if u.Up+u.Down > claimed+time.Millisecond*100 {
				t.Fatalf("%+v, and looks say something for %s only", u, claimed)
			}
		}
		for _, o := range h.Outages("f") {
			if !o.To.IsZero() && o.To.Before(o.From) {
				t.Fatalf("%+v", o)
			}
		}
	})
}

func TestLatenciesAreToldWithinAThird(t *testing.T) {
	h := memory(t)
	for i := range 1000 {
		r := seen(midnight.Add(time.Duration(i)*time.Second), "a", true)
		r.Took = time.Duration(i+1) * time.Millisecond
		h.Add(r, time.Minute)
	}
	u := h.Uptime("f", midnight, midnight.Add(time.Hour))
	for _, c := range []struct{ got, want time.Duration }{{u.P50, 500 * time.Millisecond}, {u.P95, 950 * time.Millisecond}} {
		if ratio := float64(c.got) / float64(c.want); ratio < 0.67 || ratio > 1.5 {
			t.Errorf("%s, want about %s", c.got, c.want)
		}
	}
}

func TestABudgetIsSpentByOutages(t *testing.T) {
	h := memory(t)
	at := midnight
	for ; at.Before(midnight.Add(24 * time.Hour)); at = at.Add(time.Minute) {
		minute := int(at.Sub(midnight) / time.Minute)
		h.Add(seen(at, "a", minute < 1400 || minute >= 1430), time.Minute) // down from 23:20 to 23:50
	}
	b := h.Budget("f", Availability(0.999, 30*24*time.Hour), at)
	if b.Allowed.Round(time.Second) != 43*time.Minute+12*time.Second || b.Left.Round(time.Second) != 13*time.Minute+12*time.Second || b.Longest != 30*time.Minute {
		t.Fatalf("%+v", b)
	}
	if math.Abs(b.Burn-500) > 1 { // half of the last hour was down; one in a thousand may be
		t.Fatalf("burns at %v", b.Burn)
	}
	span := func(s string) plan.Span { v, _ := plan.ParseSpan(s); return v }
	for _, c := range []struct {
		f    plan.Function
		want time.Duration
	}{{plan.Function{RTO: span("4h"), MTD: span("24h")}, 4 * time.Hour}, {plan.Function{MTD: span("24h")}, 24 * time.Hour}, {plan.Function{RTO: span("promptly")}, 0}} {
		if o, ok := ObjectiveOf(c.f); ok != (c.want > 0) || o.Allowed != c.want {
			t.Errorf("%+v, %v", o, ok)
		}
	}
}

// fill adds results of several functions, and returns the moment after.
func fill(h *History, n int) time.Time {
	at := midnight
	for i := range n {
		r := seen(at, fmt.Sprint("p", i%3), i%17 != 0)
		r.Function, r.Node = fmt.Sprint("f", i%5), "n"
		h.Add(r, 90*time.Second)
		at = at.Add(7 * time.Second)
	}
	return at
}

// same compares two histories in all that can be asked of them.
func same(t testing.TB, a, b *History, now time.Time) {
	t.Helper()
	if !reflect.DeepEqual(a.Functions(), b.Functions()) {
		t.Fatalf("functions %v, %v", a.Functions(), b.Functions())
	}
	for _, f := range a.Functions() {
		for _, window := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour, 300 * 24 * time.Hour} {
			if x, y := a.Uptime(f, now.Add(-window), now), b.Uptime(f, now.Add(-window), now); x != y {
				t.Fatalf("%s over %s: %+v, %+v", f, window, x, y)
			}
		}
		if x, y := a.Outages(f), b.Outages(f); !reflect.DeepEqual(x, y) {
			t.Fatalf("%s: outages %+v, %+v", f, x, y)
		}
		if x, y := a.Recent(f, 100), b.Recent(f, 100); !reflect.DeepEqual(x, y) {
			t.Fatalf("%s: last results %+v, %+v", f, x, y)
		}
	}
}

func open(t testing.TB, path string, most int64) *History {
	t.Helper()
	h, err := OpenHistory(HistoryOptions{Path: path, MaxBytes: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func TestAHistoryIsReadAsItWasWritten(t *testing.T) {
	for name, most := range map[string]int64{"as results": 0, "renewed again and again": 200 << 10} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fleet", "history")
			h := open(t, path, most)
			now := fill(h, 20000)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || most > 0 && info.Size() > most || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v bytes, %v", err, info.Size(), info.Mode())
			}
			again := open(t, path, most)
			same(t, h, again, now)
			r := seen(now, "p0", false)
			h.records["f0"].add(trimmed(r), time.Minute)
			again.records["f0"].add(trimmed(r), time.Minute)
			same(t, h, again, now.Add(time.Minute))
		})
	}
}

func TestAHistoryFileStaysBelowItsBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h := open(t, path, 20<<10) // less than a snapshot of everything
	fill(h, 20000)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 24<<10 {
		t.Fatal(err, info.Size())
	}
	if got := open(t, path, 20<<10); len(got.Functions()) != 5 {
		t.Fatal(got.Functions())
	}
}

// TestDamageCostsWhatFollowsIt cuts a file anywhere and flips bytes in it.
func TestDamageCostsWhatFollowsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h := open(t, path, 0)
	fill(h, 200)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		body := bytes.Clone(whole)
		at := rapid.IntRange(0, len(body)-1).Draw(rt, "at")
		if rapid.Bool().Draw(rt, "cut") {
			body = body[:at]
		} else {
			body[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
		}
		got := &History{records: map[string]*record{}}
		good := readHistory(body, got)
		if good.size > at {
			rt.Fatalf("%d bytes were taken of a file that is damaged at %d", good.size, at)
		}
		want := &History{records: map[string]*record{}}
		readHistory(whole[:good.size], want)
		if !reflect.DeepEqual(got.records, want.records) {
			rt.Fatal("what was read is not what stands before the damage")
		}
	})
	t.Run("and the rest is set aside, and it goes on", func(t *testing.T) {
		body := bytes.Clone(whole)
		body[len(body)/2] ^= 1
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		h := open(t, path, 0)
		if aside, err := os.ReadFile(path + ".damaged"); err != nil || len(aside) < len(body)/2-200 {
			t.Fatal(err, len(aside))
		}
		now := fill(h, 300)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, h, open(t, path, 0), now)
	})
	t.Run("and what is no history is set aside", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "history")
		if err := os.WriteFile(other, []byte("something else altogether"), 0o600); err != nil {
			t.Fatal(err)
		}
		h := open(t, other, 0)
		now := fill(h, 10)
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, h, open(t, other, 0), now)
	})
}

// TestKilledWriter is the process that the next test kills.
func TestKilledWriter(t *testing.T) {
	path := os.Getenv("FOUNDRY_TEST_HISTORY")
	if path == "" {
		t.Skip("is run by TestAHistorySurvivesTheDeathOfItsProcess")
	}
	h := open(t, path, 64<<10)
	for i := 0; ; i++ {
		r := seen(midnight.Add(time.Duration(i)*time.Second), "a", i%10 != 0)
		h.Add(r, time.Minute)
		if err := h.file.all(); err != nil {
			t.Fatal(err)
		}
		fmt.Println(i) // written: the operating system has it
	}
}

func TestAHistorySurvivesTheDeathOfItsProcess(t *testing.T) {
	for _, after := range []int{1, 50, 2500, 6000} { // in the midst of results, and of renewals
		path := filepath.Join(t.TempDir(), "history")
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$", "-test.timeout=10m")
		cmd.Env = append(os.Environ(), "FOUNDRY_TEST_HISTORY="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last := -1
		for last < after {
			if _, err := fmt.Fscan(out, &last); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Process.Kill()
		for err = nil; err == nil; { // what it said before it died
			var n int
			if _, err = fmt.Fscan(out, &n); err == nil {
				last = n
			}
		}
		_ = cmd.Wait()
		h := open(t, path, 64<<10)
		recent := h.Recent("f", 1)
		if len(recent) != 1 || recent[0].At.Before(midnight.Add(time.Duration(last)*time.Second)) {
			t.Fatalf("after %d results the last one is %+v", last, recent)
		}
		u := h.Uptime("f", midnight, recent[0].At)
		if known := u.Up + u.Down; known < time.Duration(last)*time.Second {
			t.Fatalf("of %ds, %s are known", last, known)
		}
	}
}

func TestADiskThatIsFullCostsNoLook(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this machine has no /dev/full")
	}
	path := filepath.Join(t.TempDir(), "history")
	h := open(t, path, 1<<20)
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.file.all(); err != nil {
		t.Fatal(err)
	}
	good := h.file.f // the writer waits: nothing is queued
	h.file.f = full
	h.Add(seen(midnight, "a", true), time.Minute)
	_ = h.file.all() // fails, unless the writer had woken by itself, failed, and does it anew
	h.Add(seen(midnight.Add(time.Minute), "a", true), time.Minute)
	if err := h.file.all(); err != nil { // there is space again: all of it is written anew
		t.Fatal(err)
	}
	good.Close()
	if h.file.f == full {
		t.Fatal("a full disk was not noticed")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, h, open(t, path, 1<<20), midnight.Add(2*time.Minute))
}

func FuzzHistoryFile(f *testing.F) {
	h := &History{records: map[string]*record{}}
	fill(h, 40)
	f.Add(appendSnapshot([]byte(historyMagic), map[string]uint64{}, h.records, 1<<20))
	f.Add([]byte(historyMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := &History{records: map[string]*record{}}
		good := readHistory(body, h)
		if good.size > len(body) {
			t.Fatal("more was read than there is")
		}
		for name := range h.records {
			if u := h.Uptime(name, midnight.Add(-time.Hour), midnight); u.Up < 0 || u.Down < 0 || u.Unknown < 0 {
				t.Fatalf("%+v", u)
			}
		}
	})
}

// FuzzHistoryRecord hands records over whose checksums are right.
func FuzzHistoryRecord(f *testing.F) {
	f.Add([]byte{recordUnit, 0, 0, 2, 3, 4, 1, 1})
	f.Add([]byte{recordOutage, 0, 2, 4, 0, 1, 'x'})
	f.Add([]byte{recordState, 0, 2, 1, 0, 1, 4})
	f.Add(append([]byte{recordResult, 2, 0, 0, 0, 0, 0, 1, 1, 9, 9, 1}, 'w'))
	f.Fuzz(func(t *testing.T, written []byte) {
		if len(written) == 0 {
			return
		}
		h := &History{records: map[string]*record{}}
		body := seal(seal([]byte(historyMagic), appendText([]byte{recordName}, "f")), written)
		readHistory(body, h)
		h.Add(Result{Probe: "f", At: midnight, OK: true}, time.Minute)
		if u := h.Uptime("f", midnight.Add(-time.Hour), midnight.Add(time.Hour)); u.Up < 0 || u.Down < 0 || u.Unknown < 0 || u.Up+u.Down+u.Unknown != u.To.Sub(u.From) {
			t.Fatalf("%+v", u)
		}
	})
}
