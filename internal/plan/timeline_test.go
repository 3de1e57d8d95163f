package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

func parse(t testing.TB, text string) *plan.Plan {
	t.Helper()
	p, err := plan.Parse("fleet.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// laboratory is a small clinic's laboratory: results need the database; the
// second node carries requests; everything is at one host but the backups.
const laboratory = `
version: 1
organisation: {name: Laboratory, operators: [anna]}
people:
  - {name: anna, deputies: [ben]}
  - {name: ben}
suppliers:
  - {name: nordhost, jurisdiction: FI, provisions_within: 2h}
  - {name: vaultco, jurisdiction: DE}
  - {name: postbox, jurisdiction: DE}
sites:
  - {name: hall-a, supplier: nordhost, country: FI}
  - {name: hall-b, supplier: nordhost, country: FI}
nodes:
  - {name: one, site: hall-a, supplier: nordhost}
  - {name: two, site: hall-b, supplier: nordhost}
data:
  - {name: results}
functions:
  - {name: database, mtd: 12h, rto: 4h, rpo: 1h, host: [one], data: [results], size: 36 GB}
  - name: results
    mtd: 12h
    rto: 4h
    host: [one]
    needs: [database]
    hostnames: [results.example]
    dns_ttl: 5 min
  - name: requests
    mtd: 1 day
    rto: 8h
    host: [one]
    fallbacks: [{node: two, state: warm, data: none}]
  - {name: mail, mtd: 2 days, rto: 8h, suppliers: [postbox]}
  - {name: wiki, host: [one, two]}
  - {name: archive}
backups:
  - name: nightly
    functions: [database]
    every: 1 day
    takes: 30 min
    transfer: 10 min
    to: [{supplier: vaultco}]
scenarios:
  - {name: one-lost, kind: node-loss, loses: [one], detect_within: 2 min, rto_from: detection, recovery: [rebuild]}
recovery:
  - name: rebuild
    functions: [database, results]
    steps:
      - {name: confirm, kind: confirm, takes: 10 min}
      - {name: order, kind: provision, supplier: nordhost}
      - {name: fence, kind: fence, takes: 5 min, after: [confirm]}
      - {name: restore, kind: restore, functions: [database], after: [order, fence]}
      - {name: replay, kind: replay, functions: [database]}
      - {name: check, kind: validate, takes: 10 min}
      - {name: point, kind: dns, functions: [results]}
      - {name: tell, kind: review, takes: 2 days}
runbooks:
  - {name: rebuild, stored_in: [results]}
  - {name: printed, stored_in: [results], printed: true}
notices:
  - {name: clients, event: outage, to: clients, within: 2h, from: confirmation, channels: [{kind: mail, function: mail}]}
  - {name: board, event: outage, to: management, within: 1h, channels: [{kind: telephone}]}
`

func TestARecoveryTakesTheLongestWayThroughItsSteps(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	e := p.RecoveryTime(p.RecoveryPlan("rebuild"), p.Function("results"), plan.Measured{})
	// detect 2m (scenario), confirm 10m, order 2h (undertaken; the fence beside
	// it takes less), restore 36 GB at an assumed 30 MB/s = 20m, replay assumed
	// 10m, check 10m, TTL 5m; the review after it counts for nothing.
	want := 2*time.Minute + 10*time.Minute + 2*time.Hour + 20*time.Minute + 10*time.Minute + 10*time.Minute + 5*time.Minute
	if e.Total != want {
		t.Errorf("takes %v, want %v: %+v", e.Total, want, e.Parts)
	}
	if got := strings.Join(e.Unknown, " "); got != "restore replay" {
		t.Errorf("unknown: %q", got)
	}
	if got := p.BeforeClock(p.RecoveryPlan("rebuild"), e); got != 2*time.Minute {
		t.Errorf("%v pass before the clock, which starts at detection", got)
	}
	if at := e.Parts[2].At; at != "recovery[0].steps[1]" {
		t.Errorf("the order is at %q", at)
	}
}

func TestMeasurementsReplaceAssumptions(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	m := plan.Measured{RestoreRate: 100e6, Replay: time.Minute, Sizes: map[string]int64{"database": 60e9}, Steps: map[string]time.Duration{"rebuild/check": 3 * time.Minute}}
	e := p.RecoveryTime(p.RecoveryPlan("rebuild"), p.Function("results"), m)
	want := 2*time.Minute + 10*time.Minute + 2*time.Hour + 10*time.Minute + time.Minute + 3*time.Minute + 5*time.Minute
	if e.Total != want || !e.Derived() {
		t.Errorf("takes %v, want %v; unknown %v", e.Total, want, e.Unknown)
	}
}

func TestWhatEveryRecoveryNeedsIsCountedWhereThePlanForgetsIt(t *testing.T) {
	t.Parallel()
	p := parse(t, `
version: 1
organisation: {name: Bakery}
nodes: [{name: oven}]
data: [{name: orders}]
functions: [{name: shop, host: [oven], data: [orders], hostnames: [shop.example], rto: 4h}]
recovery: [{name: hope, functions: [shop], steps: [{name: pray, kind: decide}]}]
`)
	e := p.RecoveryTime(&p.Recovery[0], &p.Functions[0], plan.Measured{})
	if got := strings.Join(e.Unknown, " "); got != "detect confirm restore provision validate dns" {
		t.Errorf("unknown: %q", got)
	}
	if len(e.Assumptions) != len(e.Unknown) || e.Total == 0 {
		t.Errorf("%+v", e)
	}
}

func TestACircleOfStepsEnds(t *testing.T) {
	t.Parallel()
	p := parse(t, `
version: 1
organisation: {name: Bakery}
functions: [{name: shop}]
recovery:
  - name: round
    functions: [shop]
    steps:
      - {name: a, kind: start, takes: 1 min, after: [b]}
      - {name: b, kind: validate, takes: 1 min, after: [a]}
`)
	if e := p.RecoveryTime(&p.Recovery[0], &p.Functions[0], plan.Measured{}); e.Total == 0 {
		t.Errorf("%+v", e)
	}
}

func TestABackupCanLoseTwoIntervalsOrWhatItsLogIsBehind(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	if e := p.Backups[0].WorstLoss(plan.Measured{}); e.Total != 48*time.Hour+40*time.Minute || !e.Derived() {
		t.Errorf("loses %v: %+v", e.Total, e.Parts)
	}
	if e := p.Backups[0].WorstLoss(plan.Measured{BackupTook: map[string]time.Duration{"nightly": time.Hour}}); e.Total != 49*time.Hour+10*time.Minute {
		t.Errorf("loses %v: %+v", e.Total, e.Parts)
	}
	p = parse(t, "version: 1\norganisation: {name: B}\nbackups: [{name: a, every: 1 day, continuous: 60s}, {name: b, every: regularly}]\n")
	if e := p.Backups[0].WorstLoss(plan.Measured{}); e.Total != time.Minute {
		t.Errorf("loses %v", e.Total)
	}
	if e := p.Backups[0].WorstLoss(plan.Measured{LogLag: map[string]time.Duration{"a": 3 * time.Minute}}); e.Total != 3*time.Minute {
		t.Errorf("loses %v", e.Total)
	}
	if e := p.Backups[1].WorstLoss(plan.Measured{}); strings.Join(e.Unknown, " ") != "interval run transfer" {
		t.Errorf("unknown: %q", e.Unknown)
	}
}
