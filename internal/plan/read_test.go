package plan_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// bakery is a plan in which nothing is wrong.
const bakery = `version: 1
organisation:
  name: Crust & Crumb Ltd
  country: IE
  home: [EEA]
  operators: [owner]
documents:
  - {name: handbook, version: 2.1}
people:
  - name: owner
    deputies: [baker]
  - name: baker
suppliers:
  - {name: oven-host, jurisdiction: IE}
nodes:
  - name: shop
    supplier: oven-host
    source: [handbook 3.1]
functions:
  - name: orders
    rto: 4h
    host: [shop]
    fallbacks:
      - node: shop
        state: warm
security:
  tls:
    - {for: clients, minimum: 1.2}
commitments:
  - {name: quick, subject: function.rto, at_most: 8h, of: [orders]}
`

func mistakes(t *testing.T, text string) []plan.Mistake {
	t.Helper()
	_, err := plan.Parse("fleet.yaml", []byte(text))
	var m *plan.Mistakes
	if err != nil && !errors.As(err, &m) {
		t.Fatalf("%T is no list of mistakes: %v", err, err)
	}
	if m == nil {
		return nil
	}
	return m.List
}

func TestAPlanIsRead(t *testing.T) {
	p, err := plan.Parse("fleet.yaml", []byte("\xef\xbb\xbf"+strings.ReplaceAll(bakery, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if p.Organisation.Name != "Crust & Crumb Ltd" || p.Documents[0].Version != "2.1" || p.Functions[0].RTO.Longest().Hours() != 4 || p.Security.TLS[0].Minimum != "1.2" {
		t.Fatalf("%+v", p.File)
	}
	if p.Function("orders") == nil || p.Node("shop") == nil || p.Supplier("oven") != nil {
		t.Error("things are not found by their names")
	}
}

func TestEveryMistakeOfAFileIsReportedAtOnce(t *testing.T) {
	text := strings.NewReplacer("rto: 4h", "rto: 4 parsecs\n    rpo:", "state: warm", "state: warmm", "host: [shop]", "host: [shopp]\n    hots: [shop]", "handbook 3.1", "handbok 3.1", "name: baker", "name: owner").Replace(bakery)
	var got []string
	for _, m := range mistakes(t, text) {
		got = append(got, m.Code)
	}
	if want := "plan-unknown-name plan-name-twice plan-unknown-document plan-value plan-value plan-unknown-name plan-field plan-word"; strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	_, err := plan.Parse("fleet.yaml", []byte(text))
	if !strings.Contains(err.Error(), "There are 7 more mistakes.") {
		t.Error(err)
	}
	var p *problem.Error
	if !errors.As(err, &p) || p.Kind != problem.Invalid || !strings.HasPrefix(p.Field, "fleet.yaml:11:") {
		t.Errorf("%+v", p)
	}
}

// at replaces one part of the plan.
func at(old, new string) string { return strings.Replace(bakery, old, new, 1) }

func TestMistakesHavePlacePathAndMend(t *testing.T) {
	for _, c := range []struct {
		name, text   string
		line, column int
		length       int
		path, want   string
	}{
		{"an unknown field, with the nearest name", at("    rto:", "    rtoo:"), 21, 5, 4, "functions[0].rtoo", `Did you mean "rto"?`},
		{"an unknown field, with what may stand there", at("{name: oven-host, ", "{name: oven-host, zzzzzzz: 1, "), 14, 23, 7, "suppliers[0].zzzzzzz", "jurisdiction"},
		{"a field given twice", at("    rto: 4h", "    rto: 4h\n    rto: 5h"), 22, 5, 3, "functions[0].rto", "given twice"},
		{"a name given twice", at("name: baker", "name: owner"), 12, 11, 5, "people[1].name", "its own name"},
		{"an unknown word, with the nearest", at("warm", "warn"), 25, 16, 4, "functions[0].fallbacks[0].state", `Did you mean "warm"?`},
		{"an unknown thing, with the nearest", at("[shop]", "[shup]"), 22, 12, 4, "functions[0].host[0]", `no node "shup". Did you mean "shop"?`},
		{"a thing of another kind", at("host: [shop]", "host: [oven-host]"), 22, 12, 9, "functions[0].host[0]", "There is a supplier of this name"},
		{"a source without a document", at("handbook 3.1", "manual 3.1"), 18, 14, 10, "nodes[0].source[0]", "Begin with the name of one of the documents"},
		{"a bad span", at("4h", "4 parsecs"), 21, 10, 9, "functions[0].rto", "Write for example 90s"},
		{"a bad span in quotes", at("4h", "\"four\""), 21, 10, 6, "functions[0].rto", "is not a length of time"},
		{"no value", at("4h", ""), 21, 9, 1, "functions[0].rto", "has no value"},
		{"an alias", at("rto: 4h", "rto: &a 4h"), 21, 10, 5, "functions[0].rto", "Anchors and aliases"},
		{"a merge key", at("    rto: 4h", "    <<: {rto: 4h}"), 21, 5, 2, "functions[0].<<", "plain field name"},
		{"a tag", at("4h", "!!str 4h"), 21, 10, 8, "functions[0].rto", "Tags are not used"},
		{"a list where a value is expected", at("4h", "[4h]"), 21, 10, 4, "functions[0].rto", "A list stands where a length of time is expected"},
		{"a value where a list is expected", at("[shop]", "shop"), 22, 11, 4, "functions[0].host", "Write [shop]."},
		{"fields where a list is expected", at("people:\n  - name: owner", "people:\n    name: owner"), 0, 0, 0, "", ""},
		{"a value where fields are expected", at("- name: baker", "- baker"), 12, 5, 5, "people[1]", "a group of fields is expected"},
		{"a missing name", at("- name: baker", "- title: baker"), 12, 5, 12, "people[1]", `"name" is missing`},
		{"an empty name", at("name: baker", "name: \"\""), 12, 11, 2, "people[1].name", "is empty"},
		{"a truth value in words", at("supplier: oven-host", "isolated: yes"), 17, 15, 3, "nodes[0].isolated", "Write true or false."},
		{"a truth value as text", at("name: owner", "name: true"), 10, 11, 4, "people[0].name", `Write "true", in quotes.`},
		{"another version of the format", at("version: 1", "version: 2"), 1, 10, 1, "version", "Write 1."},
		{"no version", at("version: 1\n", ""), 1, 1, 12, "", `"version" is missing`},
		{"a country that is none", at("country: IE", "country: UK"), 4, 12, 2, "organisation.country", "GB"},
		{"a group where one country is expected", at("country: IE", "country: EU"), 4, 12, 2, "organisation.country", "single country"},
		{"a subject that is none", at("function.rto", "function.rtp"), 30, 28, 12, "commitments[0].subject", "Did you mean"},
		{"a promise of nothing", at(" at_most: 8h,", ""), 30, 12, 5, "commitments[0]", "promises nothing"},
		{"two bounds", at("at_most: 8h", "at_most: 8h, equals: 4h"), 30, 63, 2, "commitments[0].equals", "more than one bound"},
		{"a bound of another unit", at("at_most: 8h", "at_most: eight"), 30, 51, 5, "commitments[0].at_most", "is not a length of time"},
		{"a promise of what is not there", at("of: [orders]", "of: [ordres]"), 30, 60, 6, "commitments[0].of[0]", `Did you mean "orders"?`},
		{"a duty about what is not there", bakery + "duties: [{name: d, kind: exercise, of: [ordrs]}]\n", 31, 41, 5, "duties[0].of[0]", `Did you mean "orders"?`},
		{"a tab", at("    rto: 4h", "\trto: 4h"), 21, 1, 1, "", "spaces, not tabs"},
		{"a bracket that stays open", at("[shop]", "[shop"), 23, 14, 1, "", "missing ]"},
		{"text with a colon", at("name: owner", "name: owner: me"), 10, 16, 1, "", "in quotes"},
		{"a second document", bakery + "---\nversion: 1\n", 31, 1, 1, "", "one document"},
		{"no document", "# a comment\n", 0, 0, 0, "", "no plan in this file"},
		{"UTF-16", "\xff\xfev\x00", 1, 1, 1, "", "UTF-8"},
		{"a byte that is not UTF-8", at("Crumb", "Cr\xfcmb"), 3, 19, 1, "", "not UTF-8"},
		{"a NUL", at("Crumb", "\x00"), 3, 17, 1, "", "NUL"},
		{"a control character", at("Crust & Crumb Ltd", "\"\\e[31m\""), 3, 9, 8, "organisation.name", "control character"},
		{"a list at the top", "- a\n- b\n", 1, 1, 1, "", "a group of fields is expected"},
		{"a word at the top", "hello\n", 1, 1, 5, "", "organisation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := mistakes(t, c.text)
			if len(list) == 0 {
				t.Fatal("nothing is reported")
			}
			m := list[0]
			for _, other := range list {
				if c.path != "" && other.Path == c.path {
					m = other // the others follow from it
				}
			}
			if c.line > 0 && (m.Place != plan.Place{Line: c.line, Column: c.column, Length: c.length}) {
				t.Errorf("at %+v, want %d:%d+%d", m.Place, c.line, c.column, c.length)
			}
			if c.path != "" && m.Path != c.path {
				t.Errorf("path %q, want %q", m.Path, c.path)
			}
			if !strings.Contains(m.Detail+" "+m.Mend, c.want) {
				t.Errorf("%q %q does not say %q", m.Detail, m.Mend, c.want)
			}
		})
	}
}

func TestAtFindsValuesAndTheThingsThatDoNotSayThem(t *testing.T) {
	p, err := plan.Parse("fleet.yaml", []byte(bakery))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]plan.Place{
		"functions[0].rto":                {21, 10, 2},
		"functions[0].host":               {22, 11, 6},
		"functions[0].host[0]":            {22, 12, 4},
		"functions[0].fallbacks":          {23, 5, 9},
		"functions[0].fallbacks[0].state": {25, 16, 4},
		"functions[0].fallbacks[0].lag":   {24, 9, 10},
		"functions[0]":                    {20, 11, 6},
		"functions[0].mtd":                {20, 11, 6},
		"functions[7].mtd":                {19, 1, 9},
		"organisation":                    {2, 1, 12},
		"organisation.owner":              {2, 1, 12},
		"organisation.home[0]":            {5, 10, 3},
		"suppliers[0]":                    {14, 12, 9},
		"backups[0].every":                {1, 1, 10},
		"":                                {1, 1, 10},
		"functions[x].[.]":                {19, 1, 9},
	} {
		if got := p.At(path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if (&plan.Plan{}).At("functions[0]") != (plan.Place{}) {
		t.Error("a plan that was not read has places")
	}
}

// What somebody may send to make a reader stall or fall: each is refused
// in a time that grows with its length.
func TestHostileFilesAreRefusedAndDoNotStallTheReader(t *testing.T) {
	for name, unit := range map[string]string{
		"brackets": "[", "braces": "{a: ", "dashes": "- ", "questions": "? ", "tags": "!a ", "anchors": "&a ", "colons": "a: ", "stars": "*a ",
		"comments": "#\n", "fields": "a: b\n", "documents": "---\n", "directives": "%a\n", "commas": "a, ", "spaces": " ", "tabs": "\t", "lines": "\n",
		"closing": "]", "quotes": "\"", "apostrophes": "'", "pipes": "|\n", "folds": "a: >\n", "letters": "a", "words": "a ", "merges": "<<: \n",
	} {
		for _, before := range []string{"", "version: 1\norganisation: ", "a: [", "a: \"", "a: |\n "} {
			text := before + strings.Repeat(unit, (64<<10)/len(unit))
			if _, err := plan.Parse("f", []byte(text)); err == nil {
				t.Errorf("%s after %q is read as a plan", name, before)
			}
		}
	}
	if m := mistakes(t, "a: ["+strings.Repeat("1,", 1<<20)+"]"); m[0].Code != "plan-size" {
		t.Error(m[0])
	}
	if m := mistakes(t, strings.Repeat(" ", 4<<20)+"a"); m[0].Code != "plan-size" {
		t.Error(m[0])
	}
	// Nothing is expanded: a thousand million laughs are two mistakes.
	laughs := "a: &a [ha, ha]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
	if m := mistakes(t, laughs); len(m) == 0 || len(m) > 8 {
		t.Error(m)
	}
	if m := mistakes(t, "version: 1\norganisation: &a {name: x, home: [*a]}\n"); len(m) == 0 {
		t.Error("a cycle is a plan")
	}
	var many strings.Builder
	many.WriteString("version: 1\norganisation: {name: x}\nnodes:\n")
	for range 20_000 {
		many.WriteString("  - {name: a, suplier: x}\n")
	}
	_, err := plan.Parse("f", []byte(many.String()))
	var all *plan.Mistakes
	if !errors.As(err, &all) || len(all.List) != 100 || all.More < 900 || !all.Abandoned {
		t.Errorf("%d and %d more", len(all.List), all.More)
	}
}

func TestRunbooksAreReadBesideThePlanOnly(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "plan")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(top, "secret.md"), "secret")
	write(filepath.Join(dir, "runbooks", "restore.md"), "# Restore\n")
	write(filepath.Join(dir, "latin.md"), "\xfc")
	write(filepath.Join(dir, "huge.md"), strings.Repeat("x", 1<<20+1))
	for link, to := range map[string]string{"out.md": "../secret.md", "in.md": "runbooks/restore.md", "loop.md": "loop.md", "away": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.md"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"runbooks/restore.md": "", "in.md": "", "./runbooks/../runbooks/restore.md": "",
		"../secret.md": "outside", filepath.Join(top, "secret.md"): "outside", "out.md": "cannot be read", "away/secret.md": "cannot be read",
		"loop.md": "cannot be read", "pipe.md": "no regular file", "runbooks": "no regular file", "none.md": "no such file", "latin.md": "UTF-8", "huge.md": "1 MiB",
	} {
		write(filepath.Join(dir, "fleet.yaml"), "version: 1\norganisation: {name: x}\nrunbooks:\n  - {name: restore, file: "+file+"}\n")
		p, err := plan.Load(dir)
		if want == "" {
			if err != nil || string(p.Books["restore"]) != "# Restore\n" {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		var m *plan.Mistakes
		if !errors.As(err, &m) || !strings.Contains(m.List[0].Detail, want) || m.List[0].Path != "runbooks[0].file" || m.List[0].Place.Line != 4 {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file", filepath.Join(dir, "pipe.md"): "no regular file", "/dev/zero": "no regular file", filepath.Join(dir, "runbooks"): "no such file",
	} {
		if _, err := plan.Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
