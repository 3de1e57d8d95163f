package lint_test

import (
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
)

const bakery = `version: 1
organisation: {name: Bakery Roggen}
people: [{name: baker}]
claims:
  - {name: hygiene, standard: ISO 9001, status: held, until: 2026-11-23}
suppress:
  - {rule: lapsed, at: hygiene, reason: The assessor comes in January., by: baker, until: 2026-12-31}
`

func rulesFound(t *testing.T, now time.Time) (found, accepted []string) {
	t.Helper()
	p, err := plan.Parse("fleet.yaml", []byte(bakery))
	if err != nil {
		t.Fatal(err)
	}
	r := lint.Check(p, lint.Options{Now: now})
	for _, f := range r.Findings {
		found = append(found, f.Rule)
	}
	for _, f := range r.Suppressed {
		accepted = append(accepted, f.Rule)
	}
	return found, accepted
}

func TestWhatLapsesIsJudgedByTheGivenTimeAlone(t *testing.T) {
	day := func(month time.Month, day, hour int) time.Time {
		return time.Date(2026, month, day, hour, 0, 0, 0, time.UTC)
	}
	for _, c := range []struct {
		name            string
		now             time.Time
		found, accepted []string
	}{
		{"without a time nothing lapses, and what accepts it is not called unused", time.Time{}, nil, nil},
		{"long before its end nothing is said, and nothing needs to be accepted", day(time.June, 1, 0), []string{"suppression-unused"}, nil},
		{"a month before its end it lapses soon", day(time.October, 25, 0), []string{"lapsing", "suppression-unused"}, nil},
		{"on its last day it still holds", day(time.November, 23, 23), []string{"lapsing", "suppression-unused"}, nil},
		{"after its last day it has lapsed, which is accepted", day(time.November, 24, 0), nil, []string{"lapsed"}},
		{"on the last day of the acceptance it is still accepted", day(time.December, 31, 23), nil, []string{"lapsed"}},
		{"after that neither holds", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), []string{"lapsed", "suppression-expired"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, accepted := rulesFound(t, c.now)
			slices.Sort(found)
			if !slices.Equal(found, c.found) || !slices.Equal(accepted, c.accepted) {
				t.Errorf("found %v, accepted %v; want %v and %v", found, accepted, c.found, c.accepted)
			}
		})
	}
}
