package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

func day(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return t
}

const registers = `
version: 1
organisation: {name: Clinic, owner: anna}
people:
  - {name: anna, check_in: 2 days}
  - {name: zed, outside: true, briefed: 2026-02-01, contract: {reference: c-1, until: 2026-12-31, notice: 30 days}}
suppliers:
  - {name: host, reviewed: 2026-01-10, review_every: yearly, alternatives: [{supplier: other}]}
  - {name: other}
documents: [{name: bcp, date: 2026-01-01, review_every: 1 year, owner: zed}]
nodes: [{name: one}]
functions: [{name: portal, host: [one], certificate: {until: 2026-05-01}, fallbacks: [{node: one, rehearsed: 2026-03-01}]}]
backups: [{name: nightly, test_every: quarterly, tested: 2026-01-01}]
runbooks: [{name: restore, review_every: quarterly}]
duties: [{name: exercise, kind: exercise, every: yearly, last: 2026-04-01}, {name: talk, kind: client-update, every: regularly}]
claims: [{name: ce, standard: cyber-essentials, status: held, until: 2026-08-01}, {name: iso, standard: iso-27001, status: in-progress}]
`

func TestTheRegisterHoldsWhatLapsesWithItsOwner(t *testing.T) {
	t.Parallel()
	p := parse(t, registers)
	var got []string
	for _, e := range p.Register() {
		due := "never said"
		if d := e.Due(time.Time{}); !d.IsZero() {
			due = d.Format(time.DateOnly)
		}
		got = append(got, e.Key+" | "+e.Owner+" | "+due)
		if path := p.At(e.At); path.Line == 0 {
			t.Errorf("%s is nowhere: %s", e.Key, e.At)
		}
	}
	want := []string{
		"backup-test backup nightly | anna | 2026-04-02",
		"briefing person zed | zed | 2027-02-01",
		"certificate function portal | anna | 2026-05-02",
		"check-in person anna | anna | never said",
		"claim ce | anna | 2026-08-02",
		"contract person zed | anna | 2027-01-01",
		"document bcp | zed | 2027-01-01",
		"duty exercise | anna | 2027-04-01",
		"rehearsal alternative host/other | anna | never said",
		"rehearsal fallback portal/one | anna | 2027-03-01",
		"runbook restore | anna | never said",
		"supplier host | anna | 2027-01-10",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatWasDoneMovesWhatComesRoundButNoExpiry(t *testing.T) {
	t.Parallel()
	every := func(text string) plan.Span { s, _ := plan.ParseSpan(text); return s }
	done := day("2026-06-01")
	if e := (plan.Entry{Last: day("2026-01-01"), Every: every("30 days")}); !e.Due(done).Equal(day("2026-07-01")) || !e.Due(day("2025-01-01")).Equal(day("2026-01-31")) {
		t.Errorf("%v %v", e.Due(done), e.Due(day("2025-01-01")))
	}
	if e := (plan.Entry{Until: day("2026-03-01"), Every: every("30 days")}); !e.Due(done).Equal(day("2026-03-01")) {
		t.Errorf("%v", e.Due(done))
	}
	if e := (plan.Entry{Every: every("regularly")}); !e.Due(done).IsZero() {
		t.Errorf("%v", e.Due(done))
	}
}

func TestMarginsSayWhatIsLeftOfEveryObjective(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	now := day("2026-06-01")
	byName := func(m plan.Measured) map[string]plan.Margin {
		out := map[string]plan.Margin{}
		for _, g := range p.Margins(m, now) {
			out[g.Function] = g
		}
		return out
	}
	g := byName(plan.Measured{})
	// 48h40m may be lost of an objective of one hour; 2h52m from the start and
	// two minutes less from detection, of 12 and 4 hours.
	d := g["database"]
	if d.RPO.Left != time.Hour-(48*time.Hour+40*time.Minute) || d.RPO.Share <= 1 || d.RTO.Expected != 2*time.Hour+50*time.Minute || d.RTO.Left != 70*time.Minute || d.MTD.Expected != 2*time.Hour+52*time.Minute || d.Worst() != d.RPO.Share {
		t.Errorf("%+v", d)
	}
	if m := g["mail"]; m.Recovery != nil || m.RTO.Bound != 0 || m.Worst() != 0 {
		t.Errorf("nothing brings mail back: %+v", m)
	}
	d = byName(plan.Measured{NewestPoint: map[string]time.Time{"nightly": now.Add(-30 * time.Minute)}})["database"]
	if d.RPO.Expected != 30*time.Minute || d.RPO.Share != 0.5 {
		t.Errorf("a proven point counts from its time: %+v", d.RPO)
	}
	d = byName(plan.Measured{NewestPoint: map[string]time.Time{"nightly": now.Add(time.Hour)}})["database"]
	if d.RPO.Expected != 0 {
		t.Errorf("a point from a clock that is ahead: %+v", d.RPO)
	}
}
