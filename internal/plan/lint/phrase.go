package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// about is the subject of a finding.
func about(kind, name string) string { return fmt.Sprintf("%s %q", kind, name) }

// sum writes an estimate as the sum of its parts.
func sum(e plan.Estimate) string {
	var out []string
	for _, p := range e.Parts {
		if p.Takes > 0 {
			out = append(out, p.Name+" "+plan.FormatDuration(p.Takes))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, " + ")
}

// firm is the part of an estimate that the plan or a measurement gives.
func firm(e plan.Estimate) (total time.Duration) {
	for _, p := range e.Parts {
		if p.From != "assumed" {
			total += p.Takes
		}
	}
	return total
}

// byName visits a list in the order of the names, so that what is said does
// not depend on the order of the file; i is the position in the file.
func byName[T any](items []T, name func(*T) string, visit func(i int, item *T)) {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(name(&items[a]), name(&items[b])) })
	for _, i := range order {
		visit(i, &items[i])
	}
}

func functionName(f *plan.Function) string { return f.Name }
