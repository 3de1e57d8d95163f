package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/sovereignty"
	"pgregory.net/rapid"
)

func TestNumbersReadWell(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567", -1234: "\u22121\u202f234"} {
		if got := number(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestMoneyShowsTheDigitsThatMatter(t *testing.T) {
	for _, c := range []struct {
		nano int64
		want string
	}{
		{0, "0.00 EUR"}, {1_500_000_000, "1.50 EUR"}, {1_234_567_890_000, "1\u202f234.57 EUR"}, {999_999_999, "1.0000 EUR"}, {250_000_000, "0.2500 EUR"},
		{3_918_720, "0.0039 EUR"}, {43_200, "0.000043 EUR"}, {1, "0.000000001 EUR"}, {-2_000_000_000, "\u22122.00 EUR"},
	} {
		if got := strings.ReplaceAll(money(c.nano, "EUR"), "\u00a0", " "); got != c.want {
			t.Errorf("%d is %q, want %q", c.nano, got, c.want)
		}
	}
	if money(5, "") != "–" {
		t.Error("an amount without a currency is shown")
	}
	for _, c := range []struct {
		nano int64
		want string
	}{{0, "0.0000"}, {99_999, "< 0.0001"}, {100_000, "0.0001"}, {2_500_000_000, "2.5000"}} {
		if got := cost(c.nano, "EUR", "EUR"); got != c.want {
			t.Errorf("%d is %q in a column, want %q", c.nano, got, c.want)
		}
	}
	if got := cost(1_000_000_000, "USD", "EUR"); got != "1.0000\u00a0USD" {
		t.Errorf("another currency is hidden: %q", got)
	}
}

func TestDownloadsCarryTheExactAmount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "nano")
		text := strings.Replace(decimal(n), ".", "", 1)
		negative := strings.HasPrefix(text, "-")
		digits := strings.TrimLeft(strings.TrimPrefix(text, "-"), "0")
		if want := strings.TrimPrefix(whole(n), "-"); digits != strings.TrimLeft(want, "0") || negative != (n < 0) {
			t.Fatalf("%d became %s", n, decimal(n))
		}
	})
}

func TestSpansAndAges(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "–", 400 * time.Microsecond: "0.40 ms", 1500 * time.Microsecond: "1.5 ms", 39600 * time.Microsecond: "40 ms",
		1234 * time.Millisecond: "1.23 s", 90 * time.Second: "1 min", 3 * time.Hour: "3 h 0 min", 72 * time.Hour: "3 days"} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestCellsAreNoFormulas(t *testing.T) {
	got := cells("=1+1", "+cmd", "-2.5", "@x", "plain", "", "\tx", "-x")
	want := []string{"'=1+1", "'+cmd", "-2.5", "'@x", "plain", "", "'\tx", "'-x"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("cell %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestSentencesOfAPolicyComeApart(t *testing.T) {
	for _, s := range sentences(sovereignty.DefaultPolicy().Text()) {
		if strings.Contains(s, "\n") || !strings.HasSuffix(s, ".") || strings.Contains(s, ". ") {
			t.Errorf("%q is no sentence", s)
		}
	}
	if n := len(sentences(sovereignty.DefaultPolicy().Text())); n < 5 {
		t.Errorf("the policy has %d sentences", n)
	}
}

func TestEveryOutcomeHasAWordAShapeAndAMeaning(t *testing.T) {
	for r := ledger.OK; r <= ledger.Failed; r++ {
		name := r.String()
		if r == ledger.Unknown {
			name = ledger.StateUnknown
		}
		if s := outcome(name); s.word == "" || s.kind == "" || outcomeMeaning(name) == "" || !contains(outcomeOrder, name) {
			t.Errorf("%s is not explained: %+v", name, s)
		}
	}
	if s := outcome("something-newer"); s.kind != idle || s.word != "Something-newer" {
		t.Errorf("an outcome of a newer binary is %+v", s)
	}
}

func TestAChartIsTallEnoughAndHidesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := chart{Format: number}
		for range rapid.IntRange(1, 90).Draw(t, "bars") {
			c.Bars = append(c.Bars, bar{"x", [2]int64{rapid.Int64Range(0, 1<<40).Draw(t, "a"), rapid.Int64Range(0, 1<<40).Draw(t, "b")}})
		}
		var drawn, parts int
		for _, b := range c.Bars {
			if b.Values[0]+b.Values[1] > c.top() {
				t.Fatalf("a bar of %v is taller than the axis to %d", b.Values, c.top())
			}
			for _, v := range b.Values {
				if v > 0 {
					parts++
				}
			}
		}
		for _, r := range c.rects() {
			drawn++
			if r.h == "0.00" {
				t.Fatal("a value above zero is invisible")
			}
		}
		if drawn != parts {
			t.Fatalf("%d parts drawn of %d", drawn, parts)
		}
	})
}

func TestTheVendoredFilesAreThoseThatWereRecorded(t *testing.T) {
	sums, err := os.ReadFile("static/vendor/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sum := sha256.Sum256(read("static/vendor/" + name))
		if hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s was changed", name)
		}
		seen++
	}
	vendored := 0
	for _, s := range scripts {
		if strings.HasPrefix(s, "static/vendor/") {
			vendored++
		}
	}
	if seen != vendored {
		t.Errorf("%d files are recorded and %d are shipped", seen, vendored)
	}
}

func TestAssetsMayBeKeptForEverUnderTheAddressOfTheirContent(t *testing.T) {
	a := loadAssets()
	get := func(path string) *httptest.ResponseRecorder {
		rec, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
		parts := strings.Split(strings.TrimPrefix(path, toStatic+"/"), "/")
		r.SetPathValue("hash", parts[0])
		r.SetPathValue("name", parts[len(parts)-1])
		a.serve(rec, r)
		return rec
	}
	for _, path := range []string{a.script, a.style, a.icon} {
		rec := get(path)
		if rec.Code != 200 || !strings.Contains(rec.Header().Get("Cache-Control"), "immutable") || rec.Body.Len() == 0 {
			t.Errorf("%s: %d %q", path, rec.Code, rec.Header().Get("Cache-Control"))
		}
	}
	if rec := get(toStatic + "/0000000000000000/console.js"); rec.Code != 404 || strings.Contains(rec.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("another content's address answers %d", rec.Code)
	}
	script := get(a.script).Body.Bytes()
	for _, part := range scripts {
		if !bytes.Contains(script, read(part)) {
			t.Errorf("the bundle lacks %s", part)
		}
	}
}

func TestPhasesOfARequestAddUpToItsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := traceData{row: ledger.RequestRow{State: "ok", Latency: time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "latency")),
			FirstToken: time.Duration(rapid.Int64Range(0, 2e12).Draw(t, "first"))}}
		for range rapid.IntRange(0, 4).Draw(t, "tries") {
			d.row.Tries = append(d.row.Tries, ledger.Try{Duration: time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "took"))})
		}
		var sum time.Duration
		for _, p := range d.phases() {
			if p.took < 0 {
				t.Fatalf("%s took %v", p.name, p.took)
			}
			sum += p.took
		}
		if sum != d.row.Latency {
			t.Fatalf("the phases take %v of %v", sum, d.row.Latency)
		}
	})
}

func TestTriesAreToldInWords(t *testing.T) {
	d := traceData{row: ledger.RequestRow{State: "ok", Provider: "mistral", Jurisdiction: "FR", Attempts: []ledger.AttemptRow{{N: 1, Provider: "b", Jurisdiction: "DE"}}, Tries: []ledger.Try{
		{Provider: "a", Reason: "circuit open"}, {Provider: "b", Reason: "answered 500", Status: 500}, {Provider: "c", Reason: "something else"}, {Provider: "mistral", Status: 200}}}}
	var got []string
	for _, c := range d.calls() {
		got = append(got, c.provider+": "+c.result.word+". "+joined(c.where, c.what))
	}
	want := []string{"a: Failed. It was left alone, because it had kept failing.", "b: Failed. Germany (DE). It answered with status 500.", "c: Failed. Something else.", "mistral: Answered. France (FR)"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
}

func TestTheNameOfARowHoldsWhatItShows(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 30, 0, 0, time.UTC)
	for _, at := range []time.Time{now.Add(-time.Minute), now.Add(-time.Hour), now.AddDate(-1, 0, 0)} {
		if name := labelOf("Request", at, now); !strings.Contains(name, moment(at, now)) || !strings.Contains(name, at.Format("2006")) {
			t.Errorf("%q does not hold %q and the year", name, moment(at, now))
		}
	}
}
