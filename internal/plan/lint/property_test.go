package lint_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/plan/plantest"
)

// Random plans are full of contradictions, circles and silence: they reach
// what no plan of a sane company does. No rule falls over them, and the order
// of the file changes nothing of what is found. The seeds are fixed, so that a
// run tells of the change under test and not of luck; FuzzCheck looks further.
func TestTheOrderOfAnyPlanChangesNothing(t *testing.T) {
	for seed := range uint64(120) {
		f := plantest.Random(rand.New(rand.NewPCG(seed, 1)).IntN)
		o := lint.Options{Now: today}
		want := placeless(lint.Check(&plan.Plan{File: *f}, o))
		plantest.Shuffle(f, rand.New(rand.NewPCG(seed, 2)).IntN)
		got := placeless(lint.Check(&plan.Plan{File: *f}, o))
		for _, s := range want {
			if !slices.Contains(got, s) {
				t.Errorf("seed %d: only in the first order: %s", seed, s)
			}
		}
		for _, s := range got {
			if !slices.Contains(want, s) {
				t.Errorf("seed %d: only in the second order: %s", seed, s)
			}
		}
	}
}
