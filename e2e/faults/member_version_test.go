//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// theNextVersion is this program as its next version may be: values of another
// schema, which the environment numbers, and a field that this one knows
// nothing of.
func theNextVersion(t *testing.T) (program string) {
	t.Helper()
	dir := tempDir(t)
	member, err := filepath.Abs("../../internal/fleet/member")
	if err != nil {
		t.Fatal(err)
	}
	replaced := map[string]string{}
	for file, change := range map[string][2]string{
		"store.go":  {"const Schema = 1\n", "var Schema = func() (n int) { _, _ = fmt.Sscan(os.Getenv(\"FOUNDRY_TEST_SCHEMA\"), &n); return n }()\n"},
		"status.go": {"type Node struct {\n", "type Node struct {\n\tZone string `json:\"zone,omitempty\"`\n"},
		"run.go":    {"\t\tn.Addresses = r.Advertise\n", "\t\tn.Addresses = r.Advertise\n\t\tn.Zone = \"north\"\n"},
	} {
		from := filepath.Join(member, file)
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		next := strings.Replace(string(text), change[0], change[1], 1)
		if next == string(text) {
			t.Fatalf("%s no longer has %q: this test has to be written anew", file, change[0])
		}
		if file == "store.go" {
			next = strings.Replace(next, "import (\n", "import (\n\t\"os\"\n", 1)
		}
		replaced[from] = filepath.Join(dir, file)
		if err := os.WriteFile(replaced[from], []byte(next), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "foundry-next")
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", "-w -X main.version=v9.0.0-next", "-o", program, "../../cmd/foundry")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the next version: %v: %s", err, out)
	}
	return program
}

// Members of this version and of the next vote together while one after the
// other is replaced by the next. What only the next knows survives what this
// one writes; one two versions apart is refused with words.
func TestMembersOfTwoVersionsWorkTogetherUntilAllAreOfTheNext(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program once more")
	}
	t.Parallel()
	next := theNextVersion(t)
	upgrade := func(p *process, schema int) {
		p.program, p.env = next, []string{fmt.Sprintf("FOUNDRY_TEST_SCHEMA=%d", schema)}
	}
	var all []*process
	for i := range 3 {
		all = append(all, newProcess(t, fmt.Sprint("node-", i+1)))
	}
	one, two, three := all[0], all[1], all[2]
	upgrade(three, 2)
	one.serve("fleet")
	for _, p := range all[1:] {
		p.join(one.say, "fleet")
		p.serve("fleet")
	}
	vote := func(when string) {
		t.Helper()
		for _, p := range all {
			await(t, when+": "+p.name+" to see all three", func() (bool, string) {
				s := p.run("node", "status")
				return s.code == 0 && strings.Contains(s.out, "All 3 members answer; one may be lost"), s.out + s.err
			})
		}
	}
	vote("two of this version and one of the next")
	if list := one.say("node", "list"); strings.Count(list, "v9.0.0-next") != 1 {
		t.Errorf("the versions are not told: %s", list)
	}

	far := newProcess(t, "node-4")
	upgrade(far, 3)
	token := strings.Fields(one.say("node", "invite", "node-4", "--roles", "gateway"))[0]
	if s := far.run("node", "join", token, "--config", far.config); s.code == 0 || !strings.Contains(s.err, "version") {
		t.Errorf("two versions apart: %d: %s%s", s.code, s.out, s.err)
	}

	// Each writes what the other wrote.
	one.say("node", "drain", "node-3")
	if list := three.say("node", "list", "--json"); !strings.Contains(list, `"zone": "north"`) || !strings.Contains(list, `"draining": true`) {
		t.Errorf("what this version does not know was lost when it wrote: %s", list)
	}
	three.say("node", "drain", "node-3", "--undo")
	three.say("node", "drain", "node-1")
	if list := one.say("node", "list"); !strings.Contains(list, "is drained") {
		t.Errorf("what the next version wrote is not read: %s", list)
	}
	one.say("node", "drain", "node-1", "--undo")

	// The upgrade goes on, node by node; each is killed, whether or not it leads.
	for _, p := range []*process{one, two} {
		p.kill()
		await(t, "the others to decide without "+p.name, func() (bool, string) {
			s := three.run("node", "status")
			return s.code == 0 && strings.Contains(s.out, "The others decide"), s.out + s.err
		})
		upgrade(p, 2)
		p.serve("fleet")
		vote(p.name + " is of the next version")
	}
	if list := one.say("node", "list"); strings.Count(list, "v9.0.0-next") != 3 {
		t.Errorf("not all are of the next version: %s", list)
	}
}
