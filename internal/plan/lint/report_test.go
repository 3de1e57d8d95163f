package lint_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
)

// orchard is a plan for reports that no rule has made.
const orchard = `version: 1
organisation: {name: Orchard}
documents:
  - {name: book}
people: [{name: grower}]
functions:
  - name: cider
    rto: "4h" # as long as a press runs
    source: [book 2.1]
  - {name: juice, title: "A title that is very long indeed, so long that nobody would show all of it in a terminal, and the mark is far to the right", rto: 8h, rpo: 1h}
commitments:
  - {name: soon, subject: function.rto, at_most: 2h, source: [book 7]}
`

// harvest is a report about it.
func harvest(t *testing.T) (*lint.Report, *plan.Plan) {
	t.Helper()
	p, err := plan.Parse("farm/fleet.yaml", []byte(orchard))
	if err != nil {
		t.Fatal(err)
	}
	until := plan.Date{}
	if err := until.UnmarshalText([]byte("2027-03-31")); err != nil {
		t.Fatal(err)
	}
	found := func(f lint.Finding) lint.Finding {
		f.Place = p.At(f.At)
		return f
	}
	return &lint.Report{
		Path: p.Path, Hash: p.Hash(),
		Findings: []lint.Finding{
			found(lint.Finding{Rule: "too-slow", Severity: lint.Error, Subject: `function "cider"`, At: "functions[0].rto", Also: []string{"commitments[0].at_most", "functions[0].rto", "functions[0].mtd"},
				Message: `"cider" takes 4h, and 2h are promised.`, Mend: "Press faster, or promise less: what is promised is read by people who plan their own day by it, and by those who pay for it.", Assumes: []string{"pressing: 1h"}, Clauses: []string{"book 2.1", "book 7"}}),
			found(lint.Finding{Rule: "far-right", Severity: lint.Warning, Subject: `function "juice"`, At: "functions[1].rpo", Message: "A message with \x1b[31m an escape,\n a newline and a \u202e mark.", Mend: "Nothing."}),
			found(lint.Finding{Rule: "not-written", Severity: lint.Note, Subject: `function "juice"`, At: "functions[1].mtd", Message: "It says nothing.", Mend: "Write it."}),
		},
		Suppressed: []lint.Finding{
			found(lint.Finding{Rule: "too-slow", Severity: lint.Warning, Subject: `function "juice"`, At: "functions[1].rto", Message: "Juice is slow, too.", Mend: "Squeeze.",
				Suppressed: &plan.Suppression{Rule: "too-slow", Reason: "The new press comes in March.", By: "grower", Until: until}}),
		},
	}, p
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "reports", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%s is not what is written (-update rewrites it): %v\n%s", path, err, got)
	}
}

func TestReportsAreWrittenAsText(t *testing.T) {
	r, p := harvest(t)
	for name, style := range map[string]lint.Style{"plain.txt": {}, "accepted.txt": {Suppressed: true}, "brief.txt": {Brief: true}, "color.txt": {Color: true}} {
		var out bytes.Buffer
		if err := r.Text(&out, p, style); err != nil {
			t.Fatal(err)
		}
		if !style.Color && strings.ContainsAny(out.String(), "\x1b\u202e") {
			t.Errorf("%s: what a plan says steers the terminal", name)
		}
		golden(t, name, out.Bytes())
	}
}

func TestReportsAreWrittenAsJSON(t *testing.T) {
	r, _ := harvest(t)
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", append(text, '\n'))
}

func TestMistakesAreWrittenInTheSameForm(t *testing.T) {
	_, err := plan.Parse("farm/fleet.yaml", []byte(strings.NewReplacer("at_most: 2h", "at_most: soon", "name: juice", "name: cider").Replace(orchard)))
	m, ok := err.(*plan.Mistakes)
	if !ok {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := lint.TextMistakes(&out, m, lint.Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "mistakes.txt", out.Bytes())
	sarif, err := lint.SARIFMistakes(m, "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, sarif, len(m.List))
}

// wellFormed checks what SARIF 2.1.0 requires (OASIS standard, 3.13 and on)
// and what code-scanning services need besides.
func wellFormed(t *testing.T, text []byte, results int) {
	t.Helper()
	var log struct {
		Schema  string `json:"$schema"`
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct {
					Name, InformationURI string
					Rules                []struct {
						ID                                      string
						ShortDescription, FullDescription, Help struct{ Text string }
						DefaultConfiguration                    struct{ Level string }
					}
				}
			}
			ColumnKind string
			Artifacts  []struct{ Location struct{ URI string } }
			Results    []struct {
				RuleID    string
				RuleIndex int
				Level     string
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct {
							URI   string
							Index *int
						}
						Region struct{ StartLine, StartColumn, EndColumn int }
					}
				}
				PartialFingerprints map[string]string
				Suppressions        []struct{ Kind, Status, Justification string }
			}
		}
	}
	if err := json.Unmarshal(text, &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || !strings.Contains(log.Schema, "sarif-schema-2.1.0.json") || len(log.Runs) != 1 {
		t.Fatalf("not SARIF 2.1.0: %s %s", log.Version, log.Schema)
	}
	run := log.Runs[0]
	if run.Tool.Driver.Name == "" || run.Tool.Driver.InformationURI == "" || run.ColumnKind != "unicodeCodePoints" || len(run.Artifacts) != 1 || len(run.Results) != results {
		t.Fatalf("%+v", run.Tool.Driver)
	}
	levels := []string{"error", "warning", "note"}
	for _, rule := range run.Tool.Driver.Rules {
		if rule.ID == "" || rule.ShortDescription.Text == "" || rule.FullDescription.Text == "" || rule.Help.Text == "" || !slices.Contains(levels, rule.DefaultConfiguration.Level) {
			t.Errorf("a rule without what is required: %+v", rule)
		}
	}
	seen := map[string]bool{}
	for _, r := range run.Results {
		if r.RuleIndex >= len(run.Tool.Driver.Rules) || r.Message.Text == "" || !slices.Contains(levels, r.Level) || len(r.Locations) != 1 {
			t.Errorf("a result without what is required: %+v", r)
			continue
		}
		at := r.Locations[0].PhysicalLocation
		if at.ArtifactLocation.URI != run.Artifacts[0].Location.URI || at.Region.StartLine < 1 || at.Region.EndColumn <= at.Region.StartColumn {
			t.Errorf("a result without a place: %+v", at)
		}
		if print := r.PartialFingerprints["foundryFinding/v1"]; print == "" || seen[print] {
			t.Errorf("a fingerprint is missing or there twice: %+v", r)
		} else {
			seen[print] = true
		}
		for _, s := range r.Suppressions {
			if s.Kind != "inSource" || s.Status != "accepted" || s.Justification == "" {
				t.Errorf("%+v", s)
			}
		}
	}
}

func prints(t *testing.T, r *lint.Report, p *plan.Plan) (out []string) {
	t.Helper()
	text, err := r.SARIF(p, "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, text, len(r.Findings)+len(r.Suppressed))
	for _, part := range strings.Split(string(text), `"foundryFinding/v1": "`)[1:] {
		print, _, _ := strings.Cut(part, `"`)
		out = append(out, print)
	}
	slices.Sort(out)
	return out
}

// A service that compares two runs must see the same findings when the file was
// only reordered.
func TestFingerprintsSurviveAnotherOrderOfTheFile(t *testing.T) {
	for _, file := range []string{"missionops", "three"} {
		p := example(t, file)
		r := lint.Check(p, lint.Options{Now: today})
		want := prints(t, r, p)
		q := shuffled(t, p, 7)
		if got := prints(t, lint.Check(q, lint.Options{Now: today}), q); !slices.Equal(got, want) {
			t.Errorf("%s: %d fingerprints, %d after the file was reordered, and they differ", file, len(want), len(got))
		}
	}
	r, p := harvest(t)
	if got := prints(t, r, p); len(got) != 4 {
		t.Error(got)
	}
}

func TestClausesAreThoseOfWhatAFindingNames(t *testing.T) {
	p, err := plan.Parse("fleet.yaml", []byte(strings.Replace(orchard, "at_most: 2h", "at_most: 1h", 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range lint.Check(p, lint.Options{}).Findings {
		if f.Rule == "promise-contradicts-plan" {
			if !slices.Equal(f.Clauses, []string{"book 2.1", "book 7"}) {
				t.Errorf("clauses %q", f.Clauses)
			}
			return
		}
	}
	t.Error("the promise is not compared with the plan")
}
