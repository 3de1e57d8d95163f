package lint_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
)

var update = flag.Bool("update", false, "rewrite the golden files of the rules")

// today is when every plan of the tests is checked.
var today = time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC)

// TestEveryRuleFindsWhatItIsForAndNothingElse reads testdata/rules/RULE: each
// fails*.yaml is a small plan that breaks the rule, the passes*.yaml of the
// same ending is the same plan mended. What is measured may stand beside a
// plan, in fails.measured.json.
func TestEveryRuleFindsWhatItIsForAndNothingElse(t *testing.T) {
	known := map[string]bool{}
	for _, rule := range lint.Rules() {
		known[rule.ID] = true
		t.Run(rule.ID, func(t *testing.T) {
			t.Parallel()
			failing, err := filepath.Glob(filepath.Join("testdata/rules", rule.ID, "fails*.yaml"))
			if err != nil || len(failing) == 0 {
				t.Fatalf("no testdata/rules/%s/fails.yaml: a rule that nothing breaks is not tested (%v)", rule.ID, err)
			}
			for _, path := range failing {
				t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) { checkPair(t, rule.ID, path) })
			}
		})
	}
	directories, err := os.ReadDir("testdata/rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range directories {
		if !known[d.Name()] {
			t.Errorf("testdata/rules/%s belongs to no rule", d.Name())
		}
	}
}

func checkPair(t *testing.T, rule, failing string) {
	passing := filepath.Join(filepath.Dir(failing), strings.Replace(filepath.Base(failing), "fails", "passes", 1))
	broken, mended := lint.Check(read(t, failing)), lint.Check(read(t, passing))

	var found strings.Builder
	for _, f := range broken.Findings {
		if f.Rule == rule {
			render(&found, f)
		}
	}
	if found.Len() == 0 {
		t.Fatalf("%s does not break the rule", failing)
	}
	golden := strings.TrimSuffix(failing, ".yaml") + ".golden"
	if *update {
		if err := os.WriteFile(golden, []byte(found.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || string(want) != found.String() {
		t.Errorf("the findings are not those of %s (-update rewrites it): %v\n%s", golden, err, found.String())
	}

	before := map[string]bool{}
	for _, f := range broken.Findings {
		before[f.Rule+" "+f.Subject] = true
	}
	for _, f := range mended.Findings {
		switch {
		case f.Rule == rule:
			t.Errorf("%s still breaks the rule: %s: %s", passing, f.Subject, f.Message)
		case !before[f.Rule+" "+f.Subject]:
			t.Errorf("mending brought a finding that was not there: %s: %s: %s", f.Rule, f.Subject, f.Message)
		}
	}
	for _, path := range []string{failing, passing} {
		p, o := read(t, path)
		want := placeless(lint.Check(p, o))
		for seed := range uint64(4) {
			if got := placeless(lint.Check(shuffled(t, p, seed), o)); !slices.Equal(got, want) {
				t.Errorf("%s: the order of the file changes what is found\nas written: %q\nshuffled:   %q", path, want, got)
				break
			}
		}
	}
}

func read(t *testing.T, path string) (*plan.Plan, lint.Options) {
	t.Helper()
	p, err := plan.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	o := lint.Options{Now: today, Commands: []string{"foundry backup recover", "foundry backup status", "foundry status"}}
	text, err := os.ReadFile(strings.TrimSuffix(path, ".yaml") + ".measured.json")
	if os.IsNotExist(err) {
		return p, o
	}
	if err == nil {
		err = json.Unmarshal(text, &o.Measured)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p, o
}

// render writes a finding with everything in it but its line, which changes
// with every comment.
func render(w *strings.Builder, f lint.Finding) {
	fmt.Fprintf(w, "%s: %s at %s\n  %s\n  %s\n", f.Severity, f.Subject, f.At, f.Message, f.Mend)
	if len(f.Also) > 0 {
		fmt.Fprintf(w, "  also: %s\n", strings.Join(f.Also, ", "))
	}
	for _, a := range f.Assumes {
		fmt.Fprintf(w, "  assumes: %s\n", a)
	}
}

// placeless lists what was found, without where: sorted, as the order of
// findings is that of the file.
func placeless(r *lint.Report) (out []string) {
	for _, f := range slices.Concat(r.Findings, r.Suppressed) {
		out = append(out, fmt.Sprint(f.Severity, " ", f.Rule, " ", f.Subject, ": ", f.Message, " ", f.Mend, " ", f.Assumes))
	}
	slices.Sort(out)
	return out
}

// ordered are the lists whose order says something.
var ordered = []string{"Steps", "Fallbacks", "Deputies", "Alternatives"}

// shuffled is the same plan with every list in another order.
func shuffled(t *testing.T, p *plan.Plan, seed uint64) *plan.Plan {
	t.Helper()
	text, err := yaml.Marshal(p.File)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := plan.Parse(p.Path, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	shuffle(reflect.ValueOf(&copied.File).Elem(), rand.New(rand.NewPCG(seed, 1)))
	if text, err = yaml.Marshal(copied.File); err != nil {
		t.Fatal(err)
	}
	if copied, err = plan.Parse(p.Path, text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	copied.Books = p.Books
	return copied
}

func shuffle(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			shuffle(v.Elem(), r)
		}
	case reflect.Slice:
		for i := range v.Len() {
			shuffle(v.Index(i), r)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			value := v.Field(i)
			shuffle(value, r)
			if value.Kind() == reflect.Slice && !slices.Contains(ordered, field.Name) {
				r.Shuffle(value.Len(), reflect.Swapper(value.Interface()))
			}
		}
	}
}

// TestSanePlansHaveNoFindings guards against false alarms: these plans were
// written by what such companies would do, not by what the rules ask.
func TestSanePlansHaveNoFindings(t *testing.T) {
	paths, err := filepath.Glob("testdata/sane/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal("no sane plans", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			for _, f := range lint.Check(read(t, path)).Findings {
				t.Errorf("%s %s at %s: %s", f.Severity, f.Rule, f.At, f.Message)
			}
		})
	}
}

func TestRulesAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range lint.Rules() {
		if seen[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		seen[r.ID] = true
		if r.ID != strings.ToLower(r.ID) || strings.ContainsAny(r.ID, " _") || r.Title == "" || r.Group == "" || r.Why == "" || r.Mend == "" {
			t.Errorf("%s: an id is in kebab-case, and title, group, why and mend are given", r.ID)
		}
		for _, sentence := range []string{r.Why, r.Mend} {
			if !strings.HasSuffix(sentence, ".") {
				t.Errorf("%s: %q is no sentence", r.ID, sentence)
			}
		}
	}
}
