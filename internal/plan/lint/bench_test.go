package lint_test

import (
	"fmt"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/plan/plantest"
)

// What `make bench-plan` measures in full.
func BenchmarkPlan(b *testing.B) {
	for _, functions := range []int{125, 500, 1000} {
		text := plantest.Sized(functions, functions/5)
		p, err := plan.Parse("fleet.yaml", text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("parse/%d", functions), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := plan.Parse("fleet.yaml", text); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("check/%d", functions), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lint.Check(p, lint.Options{Now: today})
			}
		})
	}
}
