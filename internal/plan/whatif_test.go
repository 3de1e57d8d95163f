package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

func falls(t testing.TB, p *plan.Plan, names ...string) plan.Outcome {
	t.Helper()
	var lost []plan.Thing
	for _, name := range names {
		thing, err := p.Thing(name)
		if err != nil {
			t.Fatal(err)
		}
		lost = append(lost, thing)
	}
	return p.Falls(plan.Measured{}, lost...)
}

func states(o plan.Outcome) string {
	var out []string
	for _, f := range o.Functions {
		by := ""
		if f.By != "" {
			by = " by " + f.By
		}
		out = append(out, fmt.Sprintf("%s %s%s", f.Name, f.State, by))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestWhatFallsWithWhatIsLost(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	for _, c := range []struct {
		lost []string
		want string
	}{
		{[]string{"two"}, "archive unplaced"},
		{[]string{"one"}, "archive unplaced, database down, requests carried by two, results down"},
		{[]string{"one", "two"}, "archive unplaced, database down, requests down, results down, wiki down"},
		{[]string{"hall-a"}, "archive unplaced, database down, requests carried by two, results down"},
		{[]string{"nordhost"}, "archive unplaced, database down, requests down, results down, wiki down"},
		{[]string{"postbox"}, "archive unplaced, mail down"},
		{[]string{"function database"}, "archive unplaced, database down, results down"},
		{[]string{"anna"}, "archive unplaced"}, // her deputy is there
		{[]string{"anna", "ben"}, "archive unplaced, database unstaffed, mail unstaffed, requests unstaffed, results unstaffed, wiki unstaffed"},
	} {
		if got := states(falls(t, p, c.lost...)); got != c.want {
			t.Errorf("without %v:\n got %s\nwant %s", c.lost, got, c.want)
		}
	}
}

func TestALossSaysClocksDataRecoveryAndWhatNobodyCovers(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	o := falls(t, p, "one")
	if first := o.Functions[0]; first.Name != "database" || first.Plan != "rebuild" || first.OverRTO || first.Loss == nil || first.Loss.Total != 48*time.Hour+40*time.Minute {
		t.Errorf("the tightest first: %+v", first)
	}
	if len(o.Notices) != 2 || o.Notices[0].Notice != "board" || o.Notices[0].Lost || o.Notices[1].Lost {
		t.Errorf("notices %+v", o.Notices)
	}
	if !slices.Equal(o.Runbooks, []string{"rebuild"}) {
		t.Errorf("runbooks %v", o.Runbooks)
	}
	all := strings.Join(o.Uncovered, "\n")
	for _, want := range []string{"database can lose 2d40m of data; its objective is 1h.", "The runbook rebuild is stored where nobody can read it now."} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, all)
		}
	}
	o = falls(t, p, "postbox")
	if all = strings.Join(o.Uncovered, "\n"); !strings.Contains(all, "mail is down: no fallback carries it and no recovery plan brings it back.") || !strings.Contains(all, "The notice clients has no channel left.") {
		t.Errorf("without mail:\n%s", all)
	}
	if o = falls(t, p, "vaultco"); !slices.Equal(o.Backups, []string{"nightly"}) || states(o) != "archive unplaced" {
		t.Errorf("without the vault: %+v", o)
	}
	if o = falls(t, p, "nordhost"); !strings.Contains(strings.Join(o.Uncovered, "\n"), "database is down, and what would bring it back cannot run: rebuild: its step order needs supplier nordhost.") {
		t.Errorf("without the supplier that the recovery needs:\n%s", strings.Join(o.Uncovered, "\n"))
	}
	o = falls(t, p, "nordhost", "vaultco")
	if all = strings.Join(o.Uncovered, "\n"); !strings.Contains(all, "The data of database: all of it: its backups are lost too") {
		t.Errorf("without both:\n%s", all)
	}
}

func TestAFallbackThatCannotServeSaysWhy(t *testing.T) {
	t.Parallel()
	p := parse(t, `
version: 1
organisation: {name: Clinic}
suppliers: [{name: cloud}]
nodes: [{name: one}, {name: island, isolated: true}, {name: cold}]
data: [{name: files}]
functions:
  - name: portal
    host: [one]
    data: [files]
    fallbacks:
      - {node: island, state: hot}
      - {node: cold, state: cold}
      - {node: cold, state: warm, data: backup}
      - {supplier: cloud, state: hot, data: none}
  - {name: desk, needs: [portal], host: [cold]}
`)
	o := falls(t, p, "one")
	f := o.Functions[slices.IndexFunc(o.Functions, func(f plan.FunctionOutcome) bool { return f.Name == "portal" })]
	if f.State != plan.Degraded || f.By != "cloud" || len(f.Refused) != 3 {
		t.Errorf("%+v", f)
	}
	if !strings.Contains(states(o), "desk degraded") {
		t.Errorf("what needs a degraded function is degraded: %s", states(o))
	}
	if o = falls(t, p, "one", "cloud"); !strings.Contains(states(o), "desk down") || !strings.Contains(states(o), "portal down") {
		t.Errorf("%s", states(o))
	}
}

func TestARecoveryPlanThatNeedsWhatIsLostCannotRun(t *testing.T) {
	t.Parallel()
	for step, want := range map[string]string{
		"{name: s, kind: restore, by: [zoe]}":                "its step s needs zoe",
		"{name: s, kind: decide, approved_by: [zoe]}":        "its step s needs the approval of zoe",
		"{name: s, kind: rebuild, uses: [git]}":              "its step s uses git, which is down",
		"{name: s, kind: start, node: two}":                  "its step s needs node two",
		"{name: s, kind: provision, supplier: host}":         "its step s needs supplier host",
		"{name: s, kind: fence, node: one, by: [yan]}":       "",
		"{name: s, kind: restore, uses: [shop], by: [yan]}":  "",
		"{name: s, kind: restore, by: [zoe, yan], node: x3}": "",
	} {
		p := parse(t, `
version: 1
organisation: {name: Library}
people: [{name: yan}, {name: zoe}]
suppliers: [{name: host}]
nodes: [{name: one}, {name: two}, {name: x3}]
functions: [{name: git, host: [two]}, {name: shop, host: [one]}]
recovery: [{name: back, functions: [shop], steps: [`+step+`]}]
`)
		o := falls(t, p, "one", "two", "host", "zoe")
		f := o.Functions[slices.IndexFunc(o.Functions, func(f plan.FunctionOutcome) bool { return f.Name == "shop" })]
		if got := strings.TrimPrefix(strings.Join(f.Blocked, ""), "back: "); got != want || (want == "") != (f.Plan == "back") {
			t.Errorf("%s: %q, want %q (plan %q)", step, got, want, f.Plan)
		}
	}
}

func TestSinglePointsOfFailureAreThoseThatNothingCarries(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	var got []string
	for _, s := range p.Singles(plan.Measured{}) {
		got = append(got, s.String()+": "+strings.Join(s.Functions, " "))
	}
	want := []string{"supplier nordhost: database results requests", "node one: database results", "site hall-a: database results", "supplier postbox: mail"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestAnUnknownOrAmbiguousNameIsRefusedWithTheNearest(t *testing.T) {
	t.Parallel()
	p := parse(t, laboratory)
	if _, err := p.Thing("nordhots"); err == nil || !strings.Contains(err.Error(), `Did you mean "nordhost"?`) {
		t.Errorf("%v", err)
	}
	p = parse(t, "version: 1\norganisation: {name: C}\nnodes: [{name: mail}]\nfunctions: [{name: mail}]\n")
	if _, err := p.Thing("mail"); err == nil || !strings.Contains(err.Error(), `"node mail" or "function mail"`) {
		t.Errorf("%v", err)
	}
	if thing, err := p.Thing("node mail"); err != nil || thing.Kind != plan.KindNode {
		t.Errorf("%v %v", thing, err)
	}
}

func TestTheOrderOfTheFileDoesNotMatterToTheGraph(t *testing.T) {
	t.Parallel()
	p, q := parse(t, laboratory), parse(t, laboratory)
	slices.Reverse(q.Functions)
	slices.Reverse(q.Nodes)
	slices.Reverse(q.Suppliers)
	slices.Reverse(q.People)
	a, b := p.Graph(), q.Graph()
	if !slices.Equal(a.Things, b.Things) || !slices.Equal(a.Edges, b.Edges) {
		t.Error("the graph differs")
	}
	if len(a.Edges) == 0 || states(falls(t, p, "one")) != states(falls(t, q, "one")) {
		t.Error("the outcome differs")
	}
}

func TestAnIsolatedStandbyCarriesWhatIsIsolatedWithIt(t *testing.T) {
	t.Parallel()
	const clinic = `
version: 1
organisation: {name: A clinic}
nodes:
  - {name: theatre, isolated: true, control_plane: theatre}
  - {name: theatre-standby, isolated: true, control_plane: %s}
functions:
  - {name: operations, host: [theatre], fallbacks: [{node: theatre-standby, state: warm, data: none}], data: [pictures]}
data:
  - {name: pictures, rebuilt_from: the archive}
`
	if got := states(falls(t, parse(t, fmt.Sprintf(clinic, "theatre")), "theatre")); got != "operations carried by theatre-standby" {
		t.Errorf("isolated together, and nothing that cannot be made again: %s", got)
	}
	if got := states(falls(t, parse(t, fmt.Sprintf(clinic, "other")), "theatre")); got != "operations down" {
		t.Errorf("isolated from each other: %s", got)
	}
	o := falls(t, parse(t, fmt.Sprintf(clinic, "theatre")), "theatre")
	if o.Functions[0].Loss != nil || o.Functions[0].LossSays != "" {
		t.Errorf("data that are made again are not lost: %+v", o.Functions[0])
	}
}
