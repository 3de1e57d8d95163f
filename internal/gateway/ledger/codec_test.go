package ledger

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

func anAdmission() *Admission {
	return &Admission{
		At: time.Date(2026, 11, 22, 10, 30, 15, 123456789, time.UTC), Organisation: uuid.MustParse("0197a3c0-0000-7000-8000-000000000001"),
		Key: "k7q2abcd", Endpoint: wire.ChatCompletions, Model: "claude-sonnet", Tier: "standard", Class: sovereignty.Confidential,
		Stream: true, Decision: [16]byte{1, 2, 3}, Provider: "anthropic", ProviderModel: "claude-sonnet-4-5", Jurisdiction: "US", Controller: "US",
		LeavesEEA: true, Restricted: true, Safeguard: "idta ref-7", ReservedNano: 12_000_000, Currency: "EUR",
	}
}

func anOutcome(seq uint64) *Outcome {
	return &Outcome{
		Seq: seq, At: time.Date(2026, 11, 22, 10, 30, 17, 0, time.UTC), Result: OK, Status: 200, Provider: "anthropic", ProviderModel: "claude-sonnet-4-5",
		Usage: wire.Usage{Input: 812, Output: 204, CachedInput: 512, CacheWrite: 8, Reasoning: 30, Set: true}, UsageKnown: true,
		CostNano: 4_321_000, Latency: 1800 * time.Millisecond, FirstToken: 350 * time.Millisecond,
		Tries: []Try{{Provider: "anthropic", Status: 529, Reason: "overloaded", Duration: 40 * time.Millisecond}, {Provider: "anthropic", Status: 200, Duration: 1760 * time.Millisecond}},
	}
}

// events are one of each kind, as they come back from Decode.
func events() map[string]struct {
	record []byte
	event  any
} {
	type e = struct {
		record []byte
		event  any
	}
	attempt := &Attempt{
		Seq: 9, At: time.Unix(1_800_000_000, 5).UTC(), N: 2, Provider: "mistral", ProviderModel: "mistral-large", Jurisdiction: "FR", Controller: "FR", Safeguard: "",
	}
	refusal := &Refusal{
		At: time.Unix(1_800_000_000, 0).UTC(), Organisation: uuid.Max, Key: "k", Endpoint: wire.Messages, Model: "gpt-9", Class: sovereignty.Restricted,
		Decision: [16]byte{9}, Rule: "class-ceiling", Status: 403,
	}
	trace := &Trace{Hash: [16]byte{4}, Organisation: uuid.Max, JSON: []byte(`{"outcome":"allowed"}`)}
	return map[string]e{
		"admission": {AppendAdmission(nil, anAdmission()), anAdmission()},
		"attempt":   {AppendAttempt(nil, attempt), attempt},
		"outcome":   {AppendOutcome(nil, anOutcome(77)), anOutcome(77)},
		"refusal":   {AppendRefusal(nil, refusal), refusal},
		"trace":     {AppendTrace(nil, trace), trace},
	}
}

func TestEveryEventComesBackAsItWasWritten(t *testing.T) {
	for name, e := range events() {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(e.record)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, e.event) {
				t.Errorf("got  %+v\nwant %+v", got, e.event)
			}
		})
	}
}

func TestARecordCutShortOrLengthenedIsDamaged(t *testing.T) {
	for name, e := range events() {
		for n := range e.record {
			if _, err := Decode(e.record[:n]); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s cut to %d of %d bytes: %v", name, n, len(e.record), err)
			}
		}
		if name == "trace" {
			continue // its length is a number before it: covered by what follows it
		}
		if _, err := Decode(append(bytes.Clone(e.record), 0)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

func TestARecordOfANewerBinaryIsKept(t *testing.T) {
	for name, record := range map[string][]byte{
		"a new kind":                    {kindEnd, 1, 7, 8, 9},
		"a new version of a known kind": {kindOutcome, version + 1, 7},
		"a kind far away":               {255, 255},
	} {
		got, err := Decode(record)
		n, ok := got.(*Newer)
		if err != nil || !ok || !bytes.Equal(n.Record, record) || n.Kind != record[0] || n.Version != record[1] {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	for _, record := range [][]byte{nil, {}, {1}, {0, 1}, {1, 0}} {
		if _, err := Decode(record); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v: want damage, got %v", record, err)
		}
	}
}

func TestNamesFromOutsideAreCutAtAWholeRune(t *testing.T) {
	a := anAdmission()
	a.Model = strings.Repeat("ü", 1000)
	got, err := Decode(AppendAdmission(nil, a))
	if err != nil {
		t.Fatal(err)
	}
	if m := got.(*Admission).Model; m != strings.Repeat("ü", maxName/2) {
		t.Errorf("the model has %d bytes", len(m))
	}
	if s := clip("€€", 4); s != "€" {
		t.Errorf("clip within a rune gives %q", s)
	}
	if s := clip("\x80\x80\x80", 2); s != "" {
		t.Errorf("clip of continuation bytes gives %q", s)
	}
}

func TestOfManyTriesTheLastAreKept(t *testing.T) {
	o := anOutcome(1)
	o.Tries = nil
	for i := range maxTries + 10 {
		o.Tries = append(o.Tries, Try{Provider: "p", Status: i})
	}
	got, err := Decode(AppendOutcome(nil, o))
	if err != nil {
		t.Fatal(err)
	}
	tries := got.(*Outcome).Tries
	if len(tries) != maxTries || tries[0].Status != 10 || tries[maxTries-1].Status != maxTries+9 {
		t.Errorf("kept %d tries, from %d", len(tries), tries[0].Status)
	}
}

func TestARequestIDHasOneSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := RequestID{rapid.Uint32().Draw(t, "node"), rapid.Uint32().Draw(t, "boot"), rapid.Uint64().Draw(t, "seq")}
		text := id.String()
		if len(text) != 30 || text != strings.ToLower(text) || string(id.AppendTo(nil)) != text {
			t.Fatalf("bad spelling %q", text)
		}
		back, err := ParseRequestID(text)
		if err != nil || back != id {
			t.Fatalf("%q: %v, %v", text, back, err)
		}
	})
	good := RequestID{1, 2, 3}.String()
	for _, bad := range []string{"", "req_", good[4:], good + "a", good[:29], strings.ToUpper(good), "req_" + strings.ToUpper(good[4:]),
		good[:29] + "b", "req_" + strings.Repeat("1", 26), "rex_" + good[4:], good[:10] + "\n" + good[11:]} {
		if _, err := ParseRequestID(bad); problem.From(err).Kind != problem.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestResultsHaveNamesAndKnowWhoIsToBlame(t *testing.T) {
	seen := map[string]bool{}
	for r := OK; int(r) < len(results); r++ {
		if r.String() == "" || seen[r.String()] {
			t.Errorf("result %d has the name %q", r, r)
		}
		seen[r.String()] = true
	}
	if Result(0).String() != "other" || Result(200).String() != "other" {
		t.Error("an unknown result has a name")
	}
	if OK.Error() || ClientGone.Error() || Rejected.Error() || !Timeout.Error() || !StreamBroken.Error() {
		t.Error("errors are misattributed")
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range events() {
		f.Add(e.record)
	}
	f.Add([]byte{kindEnd, 1})
	f.Add([]byte{kindOutcome, 1, 7, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, record []byte) {
		got, err := Decode(record)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		// What was read says the same when it is written and read again.
		var again []byte
		switch e := got.(type) {
		case *Admission:
			again = AppendAdmission(nil, e)
		case *Attempt:
			again = AppendAttempt(nil, e)
		case *Outcome:
			again = AppendOutcome(nil, e)
		case *Refusal:
			again = AppendRefusal(nil, e)
		case *Trace:
			again = AppendTrace(nil, e)
		case *Newer:
			if !bytes.Equal(e.Record, record) {
				t.Fatal("a newer record was changed")
			}
			return
		}
		twice, err := Decode(again)
		if err != nil || !reflect.DeepEqual(got, twice) {
			t.Fatalf("got  %+v\nthen %+v (%v)", got, twice, err)
		}
	})
}

func TestCostChargesEachTokenOnce(t *testing.T) {
	// 3 EUR input, 15 EUR output, 0.30 EUR cached, 3.75 EUR cache write, per million.
	p := Price{Currency: "EUR", Input: 3e9, Output: 15e9, Cached: 3e8, CacheWrite: 3_750_000_000}
	for name, c := range map[string]struct {
		usage wire.Usage
		nano  int64
	}{
		"nothing":                           {wire.Usage{}, 0},
		"input only":                        {wire.Usage{Input: 1_000_000}, 3e9},
		"output only":                       {wire.Usage{Output: 1_000_000}, 15e9},
		"cached input is not charged twice": {wire.Usage{Input: 1000, CachedInput: 900}, 100*3000 + 900*300},
		"cache writes are dearer":           {wire.Usage{Input: 1000, CacheWrite: 1000}, 1000 * 3750},
		"all of it":                         {wire.Usage{Input: 812, Output: 204, CachedInput: 512, CacheWrite: 8, Reasoning: 30}, 292*3000 + 512*300 + 8*3750 + 204*15000},
		"reasoning is within output":        {wire.Usage{Output: 100, Reasoning: 100}, 100 * 15000},
		"reasoning without output counts":   {wire.Usage{Reasoning: 100}, 100 * 15000},
		"more cached than input":            {wire.Usage{Input: 10, CachedInput: 1000}, 1000 * 300},
		"negative counts are nothing":       {wire.Usage{Input: -5, Output: -5, CachedInput: -5}, 0},
		"too many for an int64":             {wire.Usage{Input: math.MaxInt64, Output: math.MaxInt64}, math.MaxInt64},
	} {
		if got := p.Cost(c.usage); got != c.nano {
			t.Errorf("%s: got %d, want %d", name, got, c.nano)
		}
	}
	fraction := Price{Input: 1} // a millionth of a nano-unit a token
	if got := fraction.Cost(wire.Usage{Input: 1}); got != 1 {
		t.Errorf("a fraction costs %d, want 1: what is spent is never rounded away", got)
	}
}

func TestNoUsageWithinItsBoundsCostsMoreThanTheWorst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, 100e9)
		p := Price{Input: amount.Draw(t, "input"), Output: amount.Draw(t, "output"), Cached: amount.Draw(t, "cached"), CacheWrite: amount.Draw(t, "write")}
		in, out := rapid.Int64Range(0, 1<<40).Draw(t, "in"), rapid.Int64Range(0, 1<<40).Draw(t, "out")
		u := wire.Usage{Input: rapid.Int64Range(0, in).Draw(t, "u.in"), Output: rapid.Int64Range(0, out).Draw(t, "u.out")}
		u.CachedInput = rapid.Int64Range(0, u.Input).Draw(t, "u.cached")
		u.CacheWrite = rapid.Int64Range(0, u.Input-u.CachedInput).Draw(t, "u.write")
		u.Reasoning = rapid.Int64Range(0, u.Output).Draw(t, "u.reasoning")
		if cost, worst := p.Cost(u), p.Worst(in, out); cost > worst {
			t.Fatalf("%+v costs %d, more than the worst %d", u, cost, worst)
		}
	})
}

func TestMoneyReadsLikeMoney(t *testing.T) {
	for nano, want := range map[int64]string{
		0: "0.00 EUR", 1_000_000_000: "1.00 EUR", 1_234_567_890: "1.23 EUR", 10_000_000: "0.01 EUR", 4_321_000: "0.004321 EUR", 1: "0.000000001 EUR",
		-1_500_000_000: "-1.50 EUR", math.MinInt64: "-9223372036.85 EUR",
	} {
		if got := Money(nano, "EUR"); got != want {
			t.Errorf("Money(%d) = %q, want %q", nano, got, want)
		}
	}
}

func TestALatencyIsKnownToWithinSevenPercent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64Range(8, 1<<35).Draw(t, "us")
		d := time.Duration(us) * time.Microsecond
		got := middle(bucketOf(d))
		if diff := math.Abs(float64(got-d)) / float64(d); diff > 0.07 {
			t.Fatalf("%v reads as %v: %.1f %%", d, got, diff*100)
		}
	})
	for _, d := range []time.Duration{-1, 0, math.MaxInt64} {
		if b := bucketOf(d); b < 0 || b >= histogramSize {
			t.Errorf("%d is in bucket %d", d, b)
		}
	}
}

func TestQuantilesSurviveTheDatabase(t *testing.T) {
	var h, back histogram
	if h.encode(nil) != nil || h.quantile(0.5) != 0 {
		t.Error("an empty histogram is not empty")
	}
	for i := 1; i <= 100; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	back.merge(h.encode(nil))
	back.merge(h.encode(nil))
	for q, want := range map[float64]time.Duration{0.5: 50 * time.Millisecond, 0.95: 95 * time.Millisecond, 0: time.Millisecond, 1: 100 * time.Millisecond} {
		if got := back.quantile(q); math.Abs(float64(got-want))/float64(want) > 0.08 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
}

func FuzzHistogram(f *testing.F) {
	var h histogram
	h.add(time.Second)
	f.Add(h.encode(nil))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h histogram
		h.merge(b)
		h.quantile(0.5)
	})
}

func TestAppendingAnAdmissionDoesNotAllocate(t *testing.T) {
	a, o, buf := anAdmission(), anOutcome(1), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = AppendOutcome(AppendAdmission(buf[:0], a), o) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendAdmissionAndOutcome(b *testing.B) {
	a, o, buf := anAdmission(), anOutcome(1), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendAdmission(buf[:0], a)
		buf = AppendOutcome(buf[:0], o)
	}
}
