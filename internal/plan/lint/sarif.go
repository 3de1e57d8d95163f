package lint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// The parts of SARIF 2.1.0 (OASIS, errata 01) that code-scanning services read.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool         `json:"tool"`
		Artifacts  []sarifArtifact   `json:"artifacts"`
		Results    []sarifResult     `json:"results"`
		ColumnKind string            `json:"columnKind"`
		Properties map[string]string `json:"properties,omitempty"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string          `json:"id"`
		Short         sarifText       `json:"shortDescription"`
		Full          sarifText       `json:"fullDescription"`
		Help          sarifText       `json:"help"`
		Configuration sarifLevel      `json:"defaultConfiguration"`
		Properties    sarifProperties `json:"properties"`
	}
	sarifProperties struct {
		Tags []string `json:"tags"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifArtifact struct {
		Location sarifURI `json:"location"`
	}
	sarifURI struct {
		URI   string `json:"uri"`
		Index *int   `json:"index,omitempty"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Related      []sarifLocation    `json:"relatedLocations,omitempty"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   *sarifFinding      `json:"properties,omitempty"`
	}
	sarifFinding struct {
		Subject string   `json:"subject,omitempty"`
		Mend    string   `json:"mend,omitempty"`
		Assumes []string `json:"assumes,omitempty"`
		Clauses []string `json:"clauses,omitempty"`
	}
	sarifLocation struct {
		ID       *int           `json:"id,omitempty"`
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifURI     `json:"artifactLocation"`
		Region   *sarifRegion `json:"region,omitempty"`
	}
	sarifRegion struct {
		StartLine   int        `json:"startLine"`
		StartColumn int        `json:"startColumn"`
		EndColumn   int        `json:"endColumn"`
		Snippet     *sarifText `json:"snippet,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// SARIF writes a report for code-scanning services.
func (r *Report) SARIF(p *plan.Plan, version string) ([]byte, error) {
	run := newRun(r.Path, version)
	index := map[string]int{}
	for i, rule := range Rules() {
		index[rule.ID] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: rule.ID, Short: sarifText{Text: rule.Title + "."}, Full: sarifText{Text: rule.Why},
			Help:          sarifText{Text: rule.Why + "\n\n" + rule.Mend, Markdown: rule.Why + "\n\n**Mend:** " + rule.Mend + "\n\n`foundry plan explain " + rule.ID + "` shows an example."},
			Configuration: sarifLevel{rule.Severity.String()}, Properties: sarifProperties{[]string{"continuity", rule.Group}},
		})
	}
	all := slices.Concat(r.Findings, r.Suppressed)
	prints := fingerprints(all)
	for i, f := range all {
		region := func(at plan.Place) *sarifRegion { return regionOf(at, p.Line) }
		result := sarifResult{
			RuleID: f.Rule, RuleIndex: index[f.Rule], Level: f.Severity.String(), Message: sarifText{Text: f.Message + " " + f.Mend},
			Locations:    []sarifLocation{{Physical: run.physical(region(f.Place)), Logical: []sarifLogical{{f.At, "object"}}}},
			Fingerprints: map[string]string{"foundryFinding/v1": prints[i]},
			Properties:   &sarifFinding{f.Subject, f.Mend, f.Assumes, f.Clauses},
		}
		for k, path := range f.Also {
			id := k + 1
			result.Related = append(result.Related, sarifLocation{ID: &id, Physical: run.physical(region(p.At(path))), Logical: []sarifLogical{{path, "object"}}})
		}
		if s := f.Suppressed; s != nil {
			result.Suppressions = []sarifSuppression{{"inSource", "accepted", fmt.Sprintf("%s (by %s, until %s)", s.Reason, s.By, s.Until.Format("2006-01-02"))}}
		}
		run.Results = append(run.Results, result)
	}
	run.Properties = map[string]string{"planHash": r.Hash}
	return encode(run)
}

// SARIFMistakes writes why a text is no plan, for code-scanning services.
func SARIFMistakes(m *plan.Mistakes, version string) ([]byte, error) {
	run := newRun(m.File, version)
	index := map[string]int{}
	var all []Finding
	for _, x := range m.List {
		if _, ok := index[x.Code]; !ok {
			index[x.Code] = len(run.Tool.Driver.Rules)
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
				ID: x.Code, Short: sarifText{Text: "The file is no plan."}, Full: sarifText{Text: "A fleet file is read strictly: what cannot be understood is refused."},
				Help: sarifText{Text: "`foundry plan schema` prints the JSON Schema for editors."}, Configuration: sarifLevel{"error"}, Properties: sarifProperties{[]string{"continuity", "syntax"}},
			})
		}
		all = append(all, Finding{Rule: x.Code, Subject: x.Path, Message: x.Detail})
	}
	prints := fingerprints(all)
	for i, x := range m.List {
		run.Results = append(run.Results, sarifResult{
			RuleID: x.Code, RuleIndex: index[x.Code], Level: "error", Message: sarifText{Text: strings.TrimSpace(x.Detail + " " + x.Mend)},
			Locations:    []sarifLocation{{Physical: run.physical(regionOf(x.Place, m.Line))}},
			Fingerprints: map[string]string{"foundryFinding/v1": prints[i]},
		})
	}
	return encode(run)
}

func newRun(path, version string) *sarifRun {
	return &sarifRun{
		Tool:      sarifTool{sarifDriver{Name: "Foundry", Version: strings.TrimPrefix(version, "v"), InformationURI: "https://github.com/missionopsai/foundry", Rules: []sarifRule{}}},
		Artifacts: []sarifArtifact{{sarifURI{URI: fileURI(path)}}}, Results: []sarifResult{}, ColumnKind: "unicodeCodePoints",
	}
}

func (run *sarifRun) physical(region *sarifRegion) *sarifPhysical {
	return &sarifPhysical{Artifact: sarifURI{run.Artifacts[0].Location.URI, new(int)}, Region: region}
}

func encode(run *sarifRun) ([]byte, error) {
	text, err := json.MarshalIndent(sarifLog{sarifSchema, "2.1.0", []sarifRun{*run}}, "", "  ")
	return append(text, '\n'), err
}

func regionOf(at plan.Place, line func(int) string) *sarifRegion {
	if at.Line == 0 {
		return nil
	}
	return &sarifRegion{at.Line, at.Column, at.Column + at.Length, &sarifText{Text: line(at.Line)}}
}

// fileURI is a path as a URI: relative ones stay relative to where the check ran.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}

var indices = regexp.MustCompile(`\[[0-9]+\]`)

// fingerprints tell findings apart in a way that survives other numbers in
// their messages, other lines and another order of the file: by rule, subject
// and field. Where that is not enough, equal ones are counted in the order of
// their messages.
func fingerprints(findings []Finding) []string {
	order := make([]int, len(findings))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(findings[a].Message, findings[b].Message) })
	seen := map[string]int{}
	out := make([]string, len(findings))
	for _, i := range order {
		f := findings[i]
		base := strings.Join([]string{f.Rule, f.Subject, indices.ReplaceAllString(f.At, "[]")}, "\x00")
		sum := sha256.Sum256([]byte(fmt.Sprintf("%s\x00%d", base, seen[base])))
		seen[base]++
		out[i] = hex.EncodeToString(sum[:16])
	}
	return out
}

// JSON writes a report for programs. Fields are added, never changed or
// removed.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }

// RuleNamed finds a rule by id.
func RuleNamed(id string) (Rule, error) {
	for _, r := range Rules() {
		if r.ID == id {
			return r, nil
		}
	}
	return Rule{}, errors.New("there is no such rule")
}
