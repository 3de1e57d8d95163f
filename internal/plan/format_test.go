package plan_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/plantest"
)

func TestFormattingChangesNothingThatAPlanSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawn(t)
		p := written(t, f)
		text, err := plantest.Write(f)
		if err != nil {
			t.Fatal(err)
		}
		// A comment before some of the lines, and behind some.
		var commented strings.Builder
		for line := range strings.Lines(string(text)) {
			if rapid.IntRange(0, 9).Draw(t, "comment") == 0 && strings.HasSuffix(strings.TrimRight(line, "\n"), ":") {
				commented.WriteString(strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " "))) + "# why this is so\n")
			}
			commented.WriteString(line)
		}
		once, err := plan.Format("fleet.yaml", []byte(commented.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, commented.String())
		}
		again, err := plan.Format("fleet.yaml", once)
		if err != nil || !bytes.Equal(once, again) {
			t.Fatalf("formatting twice is not formatting once: %v\n%s\n%s", err, once, again)
		}
		q, err := plan.Parse("fleet.yaml", once)
		if err != nil || q.Hash() != p.Hash() {
			t.Fatalf("%v\n%s", err, once)
		}
		if a, b := strings.Count(commented.String(), "# why this is so"), strings.Count(string(once), "# why this is so"); a != b {
			t.Fatalf("%d comments, and %d after formatting", a, b)
		}
	})
}

func TestAPlanIsWrittenInTheOrderOfTheReference(t *testing.T) {
	t.Parallel()
	const untidy = `# what this is

# the people
people:
    - {title: "The head", name: 'head'}   # in the house
    -   deputies: [head]
        name: watch
organisation: {approvers: [head], name: "Works: and more"}
version: 1
functions:
- name: shop
  # said by the board
  mtd: "1 day"
  kind: client
# the end
`
	const tidy = `# what this is

version: 1

organisation: {name: "Works: and more", approvers: [head]}

# the people
people:
  - {name: head, title: The head} # in the house
  - name: watch
    deputies: [head]

functions:
  - name: shop
    kind: client
    # said by the board
    mtd: 1 day
# the end
`
	got, err := plan.Format("fleet.yaml", []byte(untidy))
	if err != nil || string(got) != tidy {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestTheExamplesCanBeFormatted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"single", "three", "missionops", "missionops-fixed"} {
		text, err := os.ReadFile("../../examples/" + name + "/fleet.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plan.Format(name, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNoPlanIsNotFormatted(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "version: 2\n", "[1, 2]\n", "version: 1\norganisation: {name: x}\nfunctoins: []\n"} {
		if out, err := plan.Format("fleet.yaml", []byte(text)); err == nil || out != nil {
			t.Errorf("%q: %s", text, out)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add([]byte("# a\nversion: 1 # b\n\n# c\norganisation:\n  # d\n  name: x\n# e\n"))
	f.Add([]byte("version: 1\norganisation: {name: \"a # no comment\"} # one\n"))
	f.Add([]byte("version: 1\norganisation:\n  name: |\n    # text\n    more\n"))
	f.Add([]byte("{version: 1, organisation: {name: x}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := plan.Format("fleet.yaml", text)
		if err != nil {
			return
		}
		p, err := plan.Parse("fleet.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := plan.Parse("fleet.yaml", out); err != nil || q.Hash() != p.Hash() {
			t.Errorf("%v: %q became %q", err, text, out)
		}
	})
}
