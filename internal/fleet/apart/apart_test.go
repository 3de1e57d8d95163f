package apart

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"pgregory.net/rapid"
)

var at = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func marks(t testing.TB, fleet string, things ...Thing) Marks {
	t.Helper()
	m, err := Make(fleet, "node-of-"+fleet, things, at)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFleetsThatShareASecretAreToldWhichAndHowToMend(t *testing.T) {
	main := marks(t, "main", Thing{KEK, "keys.kek", []byte("one")}, Thing{Secret, "providers[0].key", []byte("sk-shared")}, Thing{Target, "vault", []byte("s3 eu bucket")})
	night := marks(t, "night", Thing{KEK, "keys.kek", []byte("two")}, Thing{Secret, "providers[2].key", []byte("sk-shared")}, Thing{Target, "shelf", []byte("dir /mnt")})
	shared, err := Compare(main, night)
	if err != nil || len(shared) != 1 || shared[0] != (Shared{Secret, "providers[0].key", "providers[2].key"}) {
		t.Fatalf("%v %+v", err, shared)
	}
	if w := shared[0].Words(); !strings.Contains(w, "providers[0].key") || !strings.Contains(w, "second one") {
		t.Error(w)
	}
	apart, err := Compare(main, marks(t, "far", Thing{KEK, "keys.kek", []byte("three")}))
	if err != nil || apart == nil || len(apart) != 0 {
		t.Errorf("%v %+v", err, apart)
	}
}

func TestEveryKindSaysWhatItMeans(t *testing.T) {
	for _, kind := range kinds {
		if w := (Shared{kind, "a", "b"}).Words(); strings.Contains(w, "it belongs to one of them only") {
			t.Errorf("%s: %s", kind, w)
		}
	}
}

// The same value under another kind is another mark, so that a mark of one
// kind cannot be looked up among those of another.
func TestAMarkBindsItsKind(t *testing.T) {
	m := marks(t, "main", Thing{KEK, "a", []byte("same")}, Thing{Secret, "b", []byte("same")})
	if m.Marks[0].Sum == m.Marks[1].Sum {
		t.Error("the marks are equal")
	}
}

func TestMarksShowNothingOfWhatTheyMark(t *testing.T) {
	m := marks(t, "main", Thing{Secret, "providers[0].key", []byte("sk-canary-of-the-provider")}, Thing{Secret, "empty", nil})
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "canary") || len(m.Marks) != 1 {
		t.Errorf("%s", text)
	}
}

func TestFilesThatAreNoMarksAreRefused(t *testing.T) {
	good, err := json.Marshal(marks(t, "main", Thing{KEK, "a", []byte("x")}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read("good", good); err != nil {
		t.Fatal(err)
	}
	for text, code := range map[string]string{
		"":                  "marks-json",
		"[]":                "marks-json",
		string(good) + "{}": "marks-json",
		strings.Replace(string(good), `"fleet"`, `"flet"`, 1):                                                 "marks-json",
		strings.Replace(string(good), `"version":1`, `"version":2`, 1):                                        "marks-version",
		strings.Replace(string(good), `"main"`, `""`, 1):                                                      "marks-empty",
		`{"version":1,"fleet":"a","node":"b","made":"2026-11-23T03:00:00Z","marks":[]}`:                       "marks-empty",
		`{"version":1,"fleet":"a","marks":[{"kind":"node","name":"x","sum":"zz"}]}`:                           "marks-mark",
		`{"version":1,"fleet":"a","marks":[{"kind":"","name":"x","sum":"00000000000000000000000000000000"}]}`: "marks-mark",
		strings.Repeat(" ", largest+1):                                                                        "marks-size",
	} {
		_, err := Read("bad.json", []byte(text))
		if p := problem.From(err); err == nil || p.Code != code || p.Field != "bad.json" || p.Mend == "" {
			t.Errorf("%.60q: %v, want %s", text, err, code)
		}
	}
}

func TestAFleetIsNotComparedWithItself(t *testing.T) {
	m := marks(t, "main", Thing{KEK, "a", []byte("x")})
	if _, err := Compare(m, m); problem.From(err).Code != "marks-same" {
		t.Error(err)
	}
	other := m
	other.Version, other.Fleet = 2, "other"
	if _, err := Compare(m, other); problem.From(err).Code != "marks-version" {
		t.Error(err)
	}
}

// What two fleets share is what both have, whichever way round they are laid.
func TestComparingIsExactAndSymmetric(t *testing.T) {
	sums := func(n int) (out []Mark) { // without the cost of making them
		for i := range n {
			out = append(out, Mark{kinds[i%len(kinds)], fmt.Sprint("thing", i), fmt.Sprintf("%032x", i)})
		}
		return out
	}(24)
	rapid.Check(t, func(r *rapid.T) {
		a, b, want := Marks{Version: 1, Fleet: "a"}, Marks{Version: 1, Fleet: "b"}, 0
		for i := range sums {
			inA, inB := rapid.Bool().Draw(r, fmt.Sprint("a", i)), rapid.Bool().Draw(r, fmt.Sprint("b", i))
			if inA {
				a.Marks = append(a.Marks, sums[i])
			}
			if inB {
				b.Marks = append(b.Marks, sums[i])
			}
			if inA && inB {
				want++
			}
		}
		x, err := Compare(a, b)
		if err != nil {
			r.Fatal(err)
		}
		y, err := Compare(b, a)
		if err != nil || len(x) != want || len(y) != want {
			r.Fatalf("%d and %d, want %d (%v)", len(x), len(y), want, err)
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":1,"fleet":"a","node":"b","made":"2026-11-23T03:00:00Z","marks":[{"kind":"node","name":"x","sum":"00000000000000000000000000000000"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Read("x", text)
		if err != nil {
			return
		}
		other := m
		other.Fleet += "!"
		if shared, err := Compare(m, other); err != nil || len(shared) < len(m.Marks) {
			t.Errorf("%v: %d shared of %d", err, len(shared), len(m.Marks))
		}
	})
}
