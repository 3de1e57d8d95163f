package sovereignty

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/missionopsai/foundry/internal/problem"
)

var update = flag.Bool("update", false, "write what the code says now into the golden files; review the diff")

const separator = "----------\n"

// scene is the input half of a golden file, in YAML.
type scene struct {
	Policy  Policy `yaml:"policy"`
	Request struct {
		Organisation string     `yaml:"organisation"`
		Model        string     `yaml:"model"`
		Classes      []string   `yaml:"classes"` // one decision for each class, feature list and time
		Features     [][]string `yaml:"features"`
		At           []string   `yaml:"at"`
	} `yaml:"request"`
	Providers []Provider `yaml:"providers"`
	Routes    []struct {
		Provider string `yaml:"provider"`
		Model    string `yaml:"model"`
		Order    int    `yaml:"order"`
		Weight   int    `yaml:"weight"`
		Tier     string `yaml:"tier"`
	} `yaml:"routes"`
}

func (s *scene) candidates() []Candidate {
	var out []Candidate
	for _, r := range s.Routes {
		c := Candidate{Model: r.Model, Order: r.Order, Weight: r.Weight, Tier: r.Tier}
		for i := range s.Providers {
			if s.Providers[i].Name == r.Provider {
				c.Provider = &s.Providers[i]
			}
		}
		out = append(out, c)
	}
	return out
}

// render shows the first decision in full and the others by what failed.
func (s *scene) render(t *testing.T) string {
	var b strings.Builder
	classes, features := s.Request.Classes, s.Request.Features
	if len(classes) == 0 {
		classes = []string{"unset"}
	}
	if len(features) == 0 {
		features = [][]string{nil}
	}
	for _, at := range s.Request.At {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range classes {
			var class DataClass
			if name != "unset" {
				if class, err = ParseDataClass(name); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range features {
				d := Decide(s.Policy, Request{Organisation: s.Request.Organisation, Model: s.Request.Model,
					Class: class, Features: f, At: when}, s.candidates())
				readsBack(t, d)
				title := "== " + at + ", " + name
				if len(f) > 0 {
					title += ", " + strings.Join(f, " ")
				}
				if b.Len() == 0 {
					b.WriteString(title + "\n" + d.Text() + refusalText(t, d))
				} else {
					b.WriteString("\n" + title + "\n" + brief(d) + refusalText(t, d))
				}
			}
		}
	}
	return b.String()
}

// brief is the head of the trace, and of the checks those that failed.
func brief(d Decision) string {
	text, _, _ := strings.Cut(d.Text(), "\n\n")
	text = strings.TrimSuffix(text, "\n") + "\n"
	for _, c := range d.Considered {
		for _, check := range c.Checks {
			if check.Result == Fail {
				text += wrap(c.Provider+": "+check.Sentence+" ("+string(check.Rule)+")", "  no: ", "      ") + "\n"
			}
		}
	}
	return text
}

func refusalText(t *testing.T, d Decision) string {
	e := d.Refusal()
	if e == nil {
		return ""
	}
	if e.Kind != problem.Denied {
		t.Errorf("a refusal is of kind %s", e.Kind)
	}
	return "\nAnswer: " + e.Kind.String() + " " + e.Code + "\n" + wrap(e.Detail, "  ", "  ") + "\n" + wrap(e.Mend, "  ", "  ") + "\n"
}

func readsBack(t interface {
	Helper()
	Errorf(string, ...any)
}, d Decision) {
	t.Helper()
	back, err := ParseDecision(d.JSON())
	if err != nil {
		t.Errorf("the decision does not read back: %v\n%s", err, d.JSON())
		return
	}
	if back.Hash() != d.Hash() || back.Text() != d.Text() || !back.ValidUntil().Equal(d.ValidUntil()) {
		t.Errorf("the decision reads back as another one:\n%s\nwas\n%s", back.JSON(), d.JSON())
	}
}

func golden(t *testing.T, pattern string, render func(t *testing.T, input string) string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files at %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), separator)
			got := render(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("%s: got\n%s\nwant\n%s\n(go test -update writes it anew)", file, got, want)
			}
		})
	}
}

func TestDecisionsReadAsTheGoldenFilesSay(t *testing.T) {
	golden(t, "testdata/decisions/*.txt", func(t *testing.T, input string) string {
		var s scene
		if err := yaml.UnmarshalWithOptions([]byte(input), &s, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
		for i := range s.Providers {
			_ = s.Providers[i].Validate() // must not panic on incomplete records
		}
		return s.render(t)
	})
}

func TestPoliciesReadAsTheGoldenFilesSay(t *testing.T) {
	golden(t, "testdata/policies/*.txt", func(t *testing.T, input string) string {
		p, err := ParsePolicy([]byte(input))
		if err != nil {
			e := problem.From(err)
			return "Refused: " + e.Kind.String() + " " + e.Code + " at " + e.Field + "\n" + e.Detail + "\n" + e.Mend + "\n"
		}
		return p.Text()
	})
}
