package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

type inner struct {
	Name   string   `yaml:"name"`
	Wait   Duration `yaml:"wait,omitempty"`
	Until  Date     `yaml:"until,omitempty"`
	Count  int      `yaml:"count,omitempty"`
	On     bool     `yaml:"on,omitempty"`
	Key    Secret   `yaml:"key,omitempty"`
	Places []string `yaml:"places,omitempty"`
}

type shared struct {
	Limits inner `yaml:"limits,omitempty"`
}

type outer struct {
	Mode      string            `yaml:"mode,omitempty"`
	Providers []inner           `yaml:"providers,omitempty"`
	Rates     map[string]string `yaml:"rates,omitempty"`
	Shared    shared            `yaml:",inline"`
}

func TestParseReadsEveryKindOfValue(t *testing.T) {
	var got outer
	text := "mode: development\nproviders:\n  - name: a\n    wait: 1m30s\n    until: 2026-12-31\n    count: 3\n    on: true\n    key: {file: /x}\n    places: [DE, FI]\nrates: {USD: \"0.92\"}\nlimits: {name: b}\n"
	if err := Parse("f.yaml", []byte(text), &got); err != nil {
		t.Fatal(err)
	}
	p := got.Providers[0]
	if time.Duration(p.Wait) != 90*time.Second || p.Until.End().Format(time.DateOnly) != "2027-01-01" || p.Count != 3 || !p.On ||
		p.Key.File != "/x" || len(p.Places) != 2 || got.Rates["USD"] != "0.92" || got.Shared.Limits.Name != "b" {
		t.Fatalf("%+v", got)
	}
}

func TestMistakesAreReportedWithPlaceAndMend(t *testing.T) {
	for _, c := range []struct{ name, text, place, want string }{
		{"an unknown field, with the nearest name", "providers:\n  - nmae: a\n", "f.yaml:2:5", `Did you mean "name"?`},
		{"an unknown field at the top", "mod: x\n", "f.yaml:1:1", `Did you mean "mode"?`},
		{"an inlined field is known, its neighbour is not", "limist: {}\n", "f.yaml:1:1", `Did you mean "limits"?`},
		{"a field that is far from any name", "zzzzzzzzz: 1\n", "f.yaml:1:1", "config schema"},
		{"a field given twice", "mode: a\nmode: b\n", "f.yaml:2:1", ""},
		{"a bad duration", "providers:\n  - name: a\n    wait: 5 parsecs\n", "f.yaml:3:11", "5 parsecs"},
		{"a bad date", "providers:\n  - name: a\n    until: 31.12.2026\n", "f.yaml:3:12", "2026-12-31"},
		{"text where a number is expected", "providers:\n  - name: a\n    count: many\n", "f.yaml:3:12", "whole number"},
		{"text where a truth value is expected", "providers:\n  - name: a\n    on: perhaps\n", "f.yaml:3:9", "true or false"},
		{"a list where a value is expected", "mode: [a]\n", "f.yaml:1:7", "list"},
		{"a value where a list is expected", "providers: a\n", "f.yaml:1:12", ""},
		{"an alias", "mode: &a x\nrates: {USD: *a}\n", "f.yaml:1:7", "aliases"},
		{"two documents", "mode: a\n---\nmode: b\n", "f.yaml:3:", "second document"},
		{"broken YAML", "mode: [a\n", "f.yaml:", ""},
		{"another encoding", "mode: \xff\xfe\n", "", "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Parse("f.yaml", []byte(c.text), &outer{})
			var p *problem.Error
			if !errors.As(err, &p) || p.Kind != problem.Invalid {
				t.Fatalf("got %v", err)
			}
			if !strings.HasPrefix(p.Field, c.place) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %q at %q, want %q at %q", err.Error(), p.Field, c.want, c.place)
			}
		})
	}
}

func TestAnEmptyFileIsTheZeroConfiguration(t *testing.T) {
	for _, text := range []string{"", "\n", "# only a comment\n", "---\n"} {
		if err := Parse("f.yaml", []byte(text), &outer{}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSecretsAreReadFromPrivateFilesAndCredentialsOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("  s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (Secret{File: path}).Read("f"); err != nil || got != "s3cret" {
		t.Fatalf("%q %v", got, err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if got, err := (Secret{Credential: "key"}).Read("f"); err != nil || got != "s3cret" {
		t.Fatalf("%q %v", got, err)
	}
	if got, err := (Secret{Credential: "../" + filepath.Base(dir) + "/key"}).Read("f"); err != nil || got != "s3cret" {
		t.Fatalf("a credential's name is a name, not a path: %q %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Secret{"readable by others": {File: path}, "missing": {File: path + "x"}, "both": {File: path, Credential: "key"}} {
		if _, err := s.Read("providers.a.api_key"); err == nil || !strings.Contains(err.Error(), "providers.a.api_key") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"providers", "models", "listen", "mode"}
	for written, want := range map[string]string{"provider": "providers", "modes": "mode", "lisetn": "listen", "xylophone": "", "": ""} {
		if got := Nearest(written, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", written, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("mode: a\nproviders: [{name: b, wait: 5s}]\n")
	f.Add("a: &x [*x]\n")
	f.Add("? {a: b}\n: c\n")
	f.Add("mode: !!binary aGVsbG8=\n")
	f.Fuzz(func(t *testing.T, text string) {
		err := Parse("f", []byte(text), &outer{})
		var p *problem.Error
		if err != nil && !errors.As(err, &p) {
			t.Fatalf("an error without a place: %v", err)
		}
	})
}
