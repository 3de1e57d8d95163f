package plan_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
)

var update = flag.Bool("update", false, "rewrite golden files")

func loaded(t *testing.T, path string) *plan.Plan {
	t.Helper()
	p, err := plan.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestADifferenceIsSaidInSentences(t *testing.T) {
	old, now := loaded(t, "testdata/diff/old.yaml"), loaded(t, "testdata/diff/new.yaml")
	var got strings.Builder
	for _, c := range plan.Diff(old, now) {
		review := ""
		if c.Review {
			review = " (review)"
		}
		fmt.Fprintf(&got, "%s%s\n    %s %s\n", c.Sentence, review, c.How, c.Path)
		at := now
		if c.How == "removed" {
			at = old
		}
		if at.At(c.Path).Line == 0 {
			t.Errorf("%s: %s is nowhere", c.Sentence, c.Path)
		}
	}
	const golden = "testdata/diff/changes.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the changes are others (-update rewrites them):\n%s", got.String())
	}
	if changes := plan.Diff(old, old); len(changes) > 0 {
		t.Error("a plan differs from itself", changes)
	}
}

func TestBackwardsTheClocksTurnRound(t *testing.T) {
	old, now := loaded(t, "testdata/diff/old.yaml"), loaded(t, "testdata/diff/new.yaml")
	forth := map[string]string{}
	for _, c := range plan.Diff(old, now) {
		if c.Clock != "" {
			forth[c.What+c.Name+c.Field] = c.Clock
		}
	}
	n := 0
	for _, c := range plan.Diff(now, old) {
		if c.Clock == "" {
			continue
		}
		n++
		if want := map[string]string{plan.Tighter: plan.Looser, plan.Looser: plan.Tighter}[c.Clock]; forth[c.What+c.Name+c.Field] != want {
			t.Errorf("%s, but forwards it is %s", c.Sentence, forth[c.What+c.Name+c.Field])
		}
	}
	if n != len(forth) || n < 6 {
		t.Errorf("%d clocks backwards, %d forwards", n, len(forth))
	}
}
