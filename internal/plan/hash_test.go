package plan_test

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/plantest"
)

// numbers gives random numbers of a seed that rapid draws.
func numbers(t *rapid.T, label string) func(int) int {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, label), 1)).IntN
}

func drawn(t *rapid.T) *plan.File { return plantest.Random(numbers(t, "plan")) }

func written(t *rapid.T, f *plan.File) *plan.Plan {
	text, err := plantest.Write(f)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Parse("fleet.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func TestTheHashDoesNotDependOnOrderOrSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawn(t)
		p := written(t, f)
		hash := p.Hash()
		if (&plan.Plan{File: *f}).Hash() != hash {
			t.Fatal("writing and reading changes the hash")
		}
		plantest.Shuffle(f, numbers(t, "order"))
		text, err := plantest.Write(f)
		if err != nil {
			t.Fatal(err)
		}
		other := "# another comment\n" + strings.NewReplacer(": 1h\n", ": 60 min\n", ": 1 day\n", ": 24 hours\n", ": 1h30m\n", ": \"90 m\"\n").Replace(regexp.MustCompile(`(\d) GB\n`).ReplaceAllString(string(text), "${1}000mb\n"))
		q, err := plan.Parse("other.yaml", []byte(other))
		if err != nil {
			t.Fatal(err)
		}
		if q.Hash() != hash {
			t.Fatalf("the order of lists or the spelling of values changes the hash:\n%s", other)
		}
		if changes := plan.Diff(p, q); len(changes) > 0 {
			t.Fatalf("the order of lists or the spelling of values is a change: %+v", changes)
		}
	})
}

func TestTheHashAndTheDifferenceSeeEveryChangedValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawn(t)
		p := written(t, f)
		hash := p.Hash()
		changed := written(t, f)
		leaves := plantest.Leaves(&changed.File)
		leaf := leaves[rapid.IntRange(0, len(leaves)-1).Draw(t, "leaf")]
		switch x := leaf.Addr().Interface().(type) {
		case *plan.Span:
			*x = plan.SpanOf(12345 * time.Second)
		case *plan.Size:
			_ = x.UnmarshalText([]byte("12345 MB"))
		case *plan.Date:
			x.Time = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		case *plan.Bound:
			*x = "something else"
		case *bool:
			*x = !*x
		case *int:
			*x += 1000
		default:
			leaf.SetString(leaf.String() + " changed")
		}
		if changed.Hash() == hash {
			t.Fatalf("%v is not part of the hash", leaf.Type())
		}
		if len(plan.Diff(p, changed)) == 0 || len(plan.Diff(changed, p)) == 0 {
			t.Fatalf("a changed %v is no difference: now %v", leaf.Type(), leaf.Interface())
		}
	})
}

func TestTheHashIsTheSameEverywhereAndForever(t *testing.T) {
	p, err := plan.Parse("fleet.yaml", []byte("version: 1\norganisation: {name: x}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Hash(), "a03c9895d6b6c52ec8beca2d80ec698322fdf3ea5708505f4deb62b2f1379809"; got != want {
		t.Errorf("%s, want %s: approvals are by hash, and hold only while it stays", got, want)
	}
	p.Books = map[string][]byte{"lost": []byte("# One\n")}
	one := p.Hash()
	p.Books["lost"] = []byte("# Two\n")
	if two := p.Hash(); one == two || two == (&plan.Plan{File: p.File}).Hash() {
		t.Error("what a runbook says is part of what is approved")
	}
	a := at("state: warm", "state: warm\n      - supplier: oven-host")
	b := strings.Replace(a, "      - node: shop\n        state: warm\n      - supplier: oven-host\n", "      - supplier: oven-host\n      - node: shop\n        state: warm\n", 1)
	pa, errA := plan.Parse("a", []byte(a))
	pb, errB := plan.Parse("b", []byte(b))
	if errA != nil || errB != nil || a == b {
		t.Fatal(errA, errB)
	}
	if pa.Hash() == pb.Hash() {
		t.Error("the order in which fallbacks are tried is part of what a plan says")
	}
}
