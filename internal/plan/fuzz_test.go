package plan_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/plantest"
	"github.com/missionopsai/foundry/internal/problem"
)

// Whatever is read: it is a plan whose hash, differences and places can be
// asked for, or a list of mistakes that lie inside of the text.
func FuzzParse(f *testing.F) {
	f.Add([]byte(bakery))
	f.Add([]byte("version: 1\norganisation: &a {name: x, home: [*a]}\n"))
	f.Add([]byte("? {a: b}\n: c\n"))
	f.Add([]byte("version: 1\norganisation: {name: !!binary aGVsbG8=}\n<<: {}\n"))
	f.Add([]byte("\xff\xfev\x00"))
	f.Add([]byte("version: 1\r\norganisation: {name: \"\\u2028 a\\tb\"}\r\n---\n"))
	for _, name := range []string{"testdata/diff/old.yaml", "testdata/diff/new.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for seed := range uint64(4) {
		text, err := plantest.Write(plantest.Random(rand.New(rand.NewPCG(seed, 1)).IntN))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	other, err := plan.Parse("bakery.yaml", []byte(bakery))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := plan.Parse("fleet.yaml", text)
		if err == nil {
			_, _ = plan.Diff(other, p), plan.Diff(p, other)
			if len(p.Hash()) != 64 || len(plan.Diff(p, p)) > 0 {
				t.Fatal("a plan differs from itself")
			}
			if at := p.At("functions[0].host[0]"); at.Line < 1 || at.Column < 1 || at.Length < 1 {
				t.Fatalf("no place: %+v", at)
			}
			return
		}
		var m *plan.Mistakes
		var e *problem.Error
		if !errors.As(err, &m) || !errors.As(err, &e) || len(m.List) == 0 {
			t.Fatalf("an error that is no list of mistakes: %v", err)
		}
		for _, x := range m.List {
			if x.Detail == "" || x.Code == "" {
				t.Fatalf("a mistake that says nothing: %+v", x)
			}
			if x.Code != "plan-size" && x.Code != "plan-empty" && (x.Place.Line < 1 || x.Place.Column < 1 || x.Place.Length < 1) {
				t.Fatalf("a mistake without a place: %+v", x)
			}
		}
	})
}

// A span that is read means the same when it is written and read again.
func FuzzParseSpan(f *testing.F) {
	for _, s := range []string{"90s", "15 min", "1h30m", "2 business days", "quarterly", "regularly", "1.5h", "99999999999y", "1e9s", ".5h", "1h1h", "9223372036854775807s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := plan.ParseSpan(text)
		if err != nil {
			return
		}
		again, err := plan.ParseSpan(s.String())
		if err != nil || again != s {
			t.Fatalf("%q is read as %q, and that as %+v: %v", text, s, again, err)
		}
		if s.Longest() < 0 || s.Known() == (s.Vague() != "") {
			t.Fatalf("%q: %+v", text, s)
		}
		if s.Known() && s.BusinessDays() == 0 && s.Longest() >= 1e9 {
			if of, err := plan.ParseSpan(plan.FormatDuration(s.Longest())); err != nil || s.Longest()-of.Longest() >= 1e9 {
				t.Fatalf("%q is written as %q: %v", text, plan.FormatDuration(s.Longest()), err)
			}
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"12 GB", "1.5tib", "0 b", "99999999 PB", "1e9 GB", " 1 kb "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := plan.ParseSize(text)
		if err != nil {
			return
		}
		if again, err := plan.ParseSize(s.String()); err != nil || again != s || s.Bytes() < 0 {
			t.Fatalf("%q is read as %+v, and that as %+v: %v", text, s, again, err)
		}
	})
}
