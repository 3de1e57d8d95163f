// Package internal_test holds the layers together: a package may import only
// what stands below it.
package internal_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers lists every package from the bottom up. A package may import any
// package on an earlier line, and the neighbours it names in parentheses.
const layers = `
problem principal durable sovereignty(problem) config(problem)
plan
db
keys
audit
access
notify evidence
fleet
backup inference incident outage
gateway governance
continuity
api console
daemon
cli
`

// parts lists the packages inside gateway, by the same rule.
const parts = `
wire
translate upstream journal lane
simulator ledger
gateway
`

// accessParts lists the packages inside access, by the same rule.
const accessParts = `
credential policy
access
`

// backupParts lists the packages inside backup, by the same rule.
const backupParts = `
target
engine targettest
pgbackrest restic kit mirror scratch
backup
`

// fleetParts lists the packages inside fleet, by the same rule.
const fleetParts = `
probe apart
verdict
member
survivor
fleet
`

// continuityParts lists the packages inside continuity, by the same rule.
const continuityParts = `
dns scenario patroni supplier host
order
recovery
exercise
sandbox
continuity
`

// incidentParts lists the packages inside incident, by the same rule.
const incidentParts = `
clock
incident
`

// planParts lists the packages inside plan, by the same rule.
const planParts = `
plan
lint plantest
`

const module = "github.com/missionopsai/foundry/internal/"

func TestNoPackageImportsUpwards(t *testing.T) {
	for _, bad := range check(".", layers, 0) {
		t.Error(bad)
	}
	for _, bad := range check("gateway", parts, 1) {
		t.Error(bad)
	}
	for _, bad := range check("access", accessParts, 1) {
		t.Error(bad)
	}
	for _, bad := range check("backup", backupParts, 1) {
		t.Error(bad)
	}
	for _, bad := range check("fleet", fleetParts, 1) {
		t.Error(bad)
	}
	for _, bad := range check("continuity", continuityParts, 1) {
		t.Error(bad)
	}
	for _, bad := range check("incident", incidentParts, 1) {
		t.Error(bad)
	}
	for _, bad := range check("plan", planParts, 1) {
		t.Error(bad)
	}
}

func TestTheCheckFindsWhatItLooksFor(t *testing.T) {
	root := t.TempDir()
	write := func(path, body string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("db/d.go", "package db\nimport _ \""+module+"audit\"\n")
	write("keys/k.go", "package keys\nimport _ \""+module+"db\"\n")
	write("api/a.go", "package api\nimport _ \""+module+"console\"\n")
	write("api/a_test.go", "package api\nimport _ \""+module+"cli\"\n") // tests may
	write("sovereignty/s.go", "package sovereignty\nimport _ \""+module+"problem\"\n")
	write("util/u.go", "package util\n")
	got := check(root, layers, 0)
	want := []string{"api imports console", "db imports audit", "util is in no layer"}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// check reads the imports of every file below root. depth is how many
// elements of an import path, after the module's, name the package's parent.
func check(root, layers string, depth int) (bad []string) {
	rank, also := map[string]int{}, map[string][]string{}
	for i, line := range strings.Split(strings.TrimSpace(layers), "\n") {
		for _, name := range strings.Fields(line) {
			name, extra, _ := strings.Cut(strings.TrimSuffix(name, ")"), "(")
			rank[name], also[name] = i, strings.Split(extra, ",")
		}
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		from, _, inside := strings.Cut(filepath.ToSlash(rel), "/")
		if !inside {
			from = filepath.Base(root)
		}
		if _, ok := rank[from]; !ok {
			bad = append(bad, from+" is in no layer")
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, im := range f.Imports {
			target, _ := strconv.Unquote(im.Path.Value)
			rest, ours := strings.CutPrefix(target, module)
			elements := strings.Split(rest, "/")
			if !ours || len(elements) <= depth || depth == 1 && elements[0] != filepath.Base(root) {
				continue
			}
			to := elements[depth]
			if at, ok := rank[to]; to != from && (!ok || at >= rank[from]) && !slices.Contains(also[from], to) {
				bad = append(bad, from+" imports "+to)
			}
		}
		return nil
	})
	if err != nil {
		bad = append(bad, err.Error())
	}
	slices.Sort(bad)
	return slices.Compact(bad)
}
