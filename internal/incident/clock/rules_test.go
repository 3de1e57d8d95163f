package clock

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// table writes rules as somebody would read them.
func table(rules []Rule) string {
	var out strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&out, "%s: %s\n", r.ID, r.Title)
		for _, b := range r.Bounds {
			fmt.Fprintf(&out, "  %s after %s", b.Within, strings.TrimSuffix(b.From.Name+" of "+b.From.Of, " of "))
			for _, part := range []string{b.At, strings.Join(b.Source, "; "), b.Law, b.Calendar} {
				if part != "" {
					fmt.Fprintf(&out, " · %s", part)
				}
			}
			if b.Assumed {
				out.WriteString(" · ASSUMED")
			}
			out.WriteString("\n")
		}
		for _, e := range r.Ends {
			fmt.Fprintf(&out, "  ends by %s\n", strings.TrimSuffix(e.Name+" of "+e.Of, " of "))
		}
	}
	return out.String()
}

func TestRulesOfTheExamplesAreWhatTheirClausesSay(t *testing.T) {
	for _, c := range []struct {
		name, plan string
		scope      Scope
	}{
		{"node-loss", "missionops", Scope{Events: []string{"outage"}, Scenario: "node-1-failure", Functions: []string{"production-platform", "gitea"}}},
		{"breach", "missionops", Scope{Events: []string{"security-incident", "personal-data-breach"}, Scenario: "cyber-incident", Functions: []string{"production-platform"}, Isolate: []string{"node-1"},
			Personal: Personal{Controller: true, Processor: true, High: true, Regimes: []string{"UK", "EU"}}}},
		{"node-loss-fixed", "missionops-fixed", Scope{Events: []string{"outage"}, Scenario: "node-1-failure", Functions: []string{"production-platform"}}},
		{"no-plan", "", Scope{Events: []string{"outage"}, Functions: []string{"anything"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p *plan.Plan
			if c.plan != "" {
				var err error
				if p, err = plan.Load(filepath.Join("../../../examples", c.plan)); err != nil {
					t.Fatal(err)
				}
			}
			got, path := table(Rules(p, c.scope)), filepath.Join("testdata", c.name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
