package plan_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

const fenced = "# The node is lost\n\nRead this first.\n\n```foundry-step\nname: fence\nkind: fence\nbound: 5 min\nneeds_person: true\ndo: Pull its plug.   # both of them\nnode: one\nverify: it-answers\n```\n\nThen:\n\n" +
	"~~~~ foundry-step\nname: recover\nkind: restore\nbound: 45 min\nrun: foundry backup recover --to now\nuses: [paper]\nverify: foundry backup status\n~~~~\n\n```sh\nname: no step, but an example\n```\n"

func TestStepsOfARunbookAreRead(t *testing.T) {
	t.Parallel()
	steps, err := plan.ParseBook("lost.md", []byte(fenced))
	if err != nil || len(steps) != 2 {
		t.Fatalf("%v %+v", err, steps)
	}
	one, two := steps[0], steps[1]
	if one.Name != "fence" || one.Kind != "fence" || one.Bound.Longest() != 5*time.Minute || !one.Person || one.Do != "Pull its plug." || one.Node != "one" || one.Verify != "it-answers" || one.Line != 5 {
		t.Errorf("%+v", one)
	}
	if two.Run != "foundry backup recover --to now" || two.Person || len(two.Uses) != 1 || two.Line != 17 {
		t.Errorf("%+v", two)
	}
}

func TestWhatIsNoStepIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	step := func(body string) string { return "# Title\n\n```foundry-step\n" + body + "```\n" }
	const good = "name: x\nkind: restore\nbound: 5 min\nrun: foundry status\nverify: foundry status\n"
	for name, c := range map[string]struct{ text, says, at string }{
		"no end":               {"```foundry-step\nname: x\n", "has no end", "lost.md:1:1"},
		"nothing in it":        {step(""), "no step in this block", "lost.md:3:1"},
		"only a comment":       {step("# later\n"), "no step in this block", "lost.md:3:1"},
		"a list":               {step("- name: x\n"), "A list stands", "lost.md:4:1"},
		"an unknown field":     {step(good + "timeout: 5 min\n"), `no field "timeout"`, "lost.md:9:1"},
		"a field twice":        {step(good + "name: y\n"), "given twice", "lost.md:9:1"},
		"an unknown kind":      {step(strings.Replace(good, "kind: restore", "kind: restoer", 1)), `"restoer" is none of the words`, "lost.md:5:7"},
		"no name":              {step(strings.Replace(good, "name: x\n", "", 1)), `"name" is missing`, ""},
		"nothing to verify":    {step(strings.Replace(good, "verify: foundry status\n", "", 1)), `"verify" is missing`, ""},
		"no length of time":    {step(strings.Replace(good, "5 min", "5 bananas", 1)), "not a length of time", ""},
		"nothing to do":        {step(strings.Replace(good, "run: foundry status\n", "", 1)), "does nothing", ""},
		"two things to do":     {step(good + "do: Look.\nneeds_person: true\n"), "by a command and by somebody", "lost.md:9:5"},
		"done by nobody":       {step(strings.Replace(good, "run: foundry status", "do: Look.", 1)), "needs nobody", "lost.md:7:5"},
		"another program":      {step(strings.Replace(good, "run: foundry status", "run: rm -rf /", 1)), "no foundry command", "lost.md:7:6"},
		"a second program":     {step(strings.Replace(good, "run: foundry status", "run: foundry status; rm -rf /", 1)), "no foundry command", "lost.md:7:6"},
		"a pipe to verify":     {step(strings.Replace(good, "verify: foundry status", "verify: foundry status | true", 1)), "no foundry command", "lost.md:8:9"},
		"an alias":             {step(strings.Replace(good, "name: x", "name: &a x", 1)), "Anchors and aliases", "lost.md:4:7"},
		"two of one name":      {step(good) + step(good), `two steps "x"`, "lost.md:12:1"},
		"words after the mark": {"```foundry-step name=x\n```\n", "no language", "lost.md:1:1"},
		"capital letters":      {"```Foundry-Step\nname: foundry-step\n```\n", "no language", "lost.md:1:1"},
	} {
		steps, err := plan.ParseBook("lost.md", []byte(c.text))
		var m *plan.Mistakes
		if !errors.As(err, &m) || steps != nil || !strings.Contains(m.Problem().Detail, c.says) || c.at != "" && m.Problem().Field != c.at {
			t.Errorf("%s: %+v %v %v, want %q at %s", name, steps, err, m, c.says, c.at)
		}
	}
	if _, err := plan.ParseBook("lost.md", []byte(step(good))); err != nil {
		t.Error(err)
	}
}

func TestARunbookOfThousandsOfBlocksIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := plan.ParseBook("lost.md", []byte(strings.Repeat("```foundry-step\n```\n", 40_000)))
	if err == nil {
		t.Error("they are read")
	}
}

func TestAPlanWithAStepThatIsNoneIsNotLoaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"fleet.yaml": "version: 1\norganisation: {name: x}\nrunbooks: [{name: lost, file: lost.md}]\n", "lost.md": "```foundry-step\nname: x\n```\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := plan.Load(dir)
	var m *plan.Mistakes
	if !errors.As(err, &m) || m.File != "lost.md" {
		t.Errorf("%v", err)
	}
}

func FuzzParseBook(f *testing.F) {
	f.Add([]byte(fenced))
	f.Add([]byte("```foundry-step\n"))
	f.Add([]byte("~~~foundry-step\nname: [\n~~~"))
	f.Add([]byte("   ````foundry-step\n```\nname: x\n````\n"))
	f.Add([]byte("```foundry-step\r\nname: x\r\n```\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		steps, err := plan.ParseBook("fuzz.md", text)
		if err != nil && steps != nil {
			t.Error("steps of what is none")
		}
		for _, s := range steps {
			if s.Name == "" || s.Verify == "" || (s.Run == "") == (s.Do == "") || s.Line < 1 {
				t.Errorf("%+v", s)
			}
		}
		var m *plan.Mistakes
		if errors.As(err, &m) {
			lines := strings.Count(string(text), "\n") + 1
			for _, x := range m.List {
				if x.Place.Line > lines+1 || x.Detail == "" {
					t.Errorf("%+v", x)
				}
			}
		}
	})
}
