package lint_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unicode"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/plan/plantest"
)

// FuzzCheck checks whatever can be read. No rule may fall, and what is written
// of it is JSON for programs and steers no terminal.
func FuzzCheck(f *testing.F) {
	files, err := filepath.Glob("testdata/rules/*/fails.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no rules", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for seed := range uint64(8) {
		text, err := plantest.Write(plantest.Random(rand.New(rand.NewPCG(seed, 2)).IntN))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := plan.Parse("fleet.yaml", text)
		if err != nil {
			var m *plan.Mistakes
			if !errors.As(err, &m) {
				t.Fatal(err)
			}
			sarif, err := lint.SARIFMistakes(m, "v1.0.0")
			if err != nil || !json.Valid(sarif) {
				t.Fatalf("no SARIF of mistakes: %v", err)
			}
			harmless(t, func(w io.Writer) error { return lint.TextMistakes(w, m, lint.Style{}) })
			return
		}
		r := lint.Check(p, lint.Options{Now: today})
		for _, x := range append(r.Findings, r.Suppressed...) {
			if x.Message == "" || x.Subject == "" || x.Place.Line < 1 {
				t.Fatalf("a finding without message, subject or place: %+v", x)
			}
		}
		sarif, err := r.SARIF(p, "v1.0.0")
		if err != nil || !json.Valid(sarif) {
			t.Fatalf("no SARIF: %v", err)
		}
		if body, err := json.Marshal(r); err != nil || !json.Valid(body) {
			t.Fatalf("no JSON: %v", err)
		}
		harmless(t, func(w io.Writer) error { return r.Text(w, p, lint.Style{Suppressed: true}) })
	})
}

func harmless(t *testing.T, write func(io.Writer) error) {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	for _, c := range out.String() {
		if unicode.IsControl(c) && c != '\n' {
			t.Fatalf("the text holds %q", c)
		}
	}
}
