package daemon

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/problem"
)

// left is what a node with a kit's content has left.
func left(t *testing.T, c kit.Content) survivor.Held {
	t.Helper()
	parts, err := splitKit(c)
	if err != nil {
		t.Fatal(err)
	}
	note, err := json.Marshal(noteOf(c))
	if err != nil {
		t.Fatal(err)
	}
	return survivor.Held{From: "node-1", To: "node-2", Fleet: "f", Made: c.Made, Digest: strings.Repeat("ab", 32), Parts: parts, Latest: note}
}

func TestWhoStillAnswersIsNotTakenOver(t *testing.T) {
	o := TakeOverOptions{From: "node-1", Reason: "the server burnt down", DataDir: t.TempDir()}
	alive := &member.Status{Majority: true, Nodes: []member.NodeStatus{{Node: member.Node{Name: "node-1"}, Answers: true}}}
	if _, err := takeOver(t.Context(), left(t, aKit()), alive, taking{}, o); problem.From(err).Code != "survivor-alive" {
		t.Errorf("%v", err)
	}
	alive.Nodes[0].Answers, alive.Majority = false, false
	h := left(t, aKit())
	if err := refuseAlive(alive, &h, o); err != nil || len(h.Doubts) != 1 || !strings.Contains(h.Doubts[0], "is not known") {
		t.Errorf("without a majority: %v, %q", err, h.Doubts)
	}
	alive.Nodes[0].Answers, o.DryRun = true, true
	if err := refuseAlive(alive, &h, o); err != nil {
		t.Errorf("a dry run: %v", err)
	}
}

func TestAStaleBundleIsUsedByWhoSaysSoOnly(t *testing.T) {
	o := TakeOverOptions{From: "node-1", Reason: "the server burnt down", DataDir: t.TempDir()}
	for _, accepted := range []bool{false, true} {
		h := left(t, aKit())
		h.Stale, h.Doubts, o.Stale = true, []string{"It has changed keys since."}, accepted
		_, err := takeOver(t.Context(), h, nil, taking{by: "local:uid=0"}, o)
		if stale := problem.From(err).Code == "survivor-stale"; stale == accepted {
			t.Errorf("accepted %v: %v", accepted, err)
		}
	}
}

func TestATakeOverNeedsANameAndAReason(t *testing.T) {
	for code, o := range map[string]TakeOverOptions{
		"recovery-reason": {From: "node-1", Reason: " too short "},
		"node-name":       {From: "../node-1", Reason: "long enough to be one"},
	} {
		if err := o.check(); problem.From(err).Code != code {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if err := (TakeOverOptions{From: "node-1", DryRun: true}).check(); err != nil {
		t.Errorf("a dry run: %v", err)
	}
}

// A bundle with its note has all that a recovery reads of a kit.
func TestABundleWithItsNoteIsAKit(t *testing.T) {
	c := aKit()
	c.Expected = json.RawMessage(`{"archived":"0/3000000"}`)
	h := left(t, c)
	got, err := joinKit(h.Parts)
	if err != nil {
		t.Fatal(err)
	}
	if notes, err := completeKit(&got, h); err != nil || len(notes) > 0 {
		t.Fatalf("%q, %v", notes, err)
	}
	for _, f := range c.Files {
		if body, there := got.File(f.Path); !there || string(body) != string(f.Body) {
			t.Errorf("%s is not in it", f.Path)
		}
	}
	if string(got.Expected) != string(c.Expected) || !reflect.DeepEqual(got.Audit, c.Audit) {
		t.Errorf("%s %+v", got.Expected, got.Audit)
	}
	// Without a note no number of a start is used twice.
	h.Latest = nil
	if got, err = joinKit(h.Parts); err != nil {
		t.Fatal(err)
	}
	notes, err := completeKit(&got, h)
	body, _ := got.File("node.json")
	var n node
	if err != nil || len(notes) != 1 || json.Unmarshal(body, &n) != nil || n.Number != c.Node.Number || n.Boot < 3_000_000 {
		t.Errorf("%s, %q, %v", body, notes, err)
	}
	h.Latest = []byte(`{"version": 99}`)
	if _, err := completeKit(&got, h); problem.From(err).Code != "survivor-version" {
		t.Errorf("a note of a later version: %v", err)
	}
}

func TestANoteKeepsItsBoundAndTheNewestLines(t *testing.T) {
	c := aKit()
	line := strings.Repeat("x", 99) + "\n"
	for i := range c.Files {
		if c.Files[i].Path == "audit/checkpoints.jsonl" {
			c.Files[i].Body = []byte(strings.Repeat(line, 2000) + "the newest\n")
		}
	}
	c.Files = append(c.Files, kit.File{Path: "breakglass/large.json", Body: make([]byte, 100<<10)})
	n := noteOf(c)
	size := 0
	for _, f := range n.Files {
		size += len(f.Body)
	}
	lines, _ := n.File("audit/checkpoints.jsonl")
	if size > longestNote || !strings.HasSuffix(string(lines), "the newest\n") || len(lines)%len(line) != len("the newest\n") {
		t.Errorf("%d bytes, lines %d", size, len(lines))
	}
	if _, there := n.File("node.json"); !there {
		t.Error("the count of starts is missing")
	}
	if _, there := n.File("keys/aead.keyset"); there || len(n.KEKs) > 0 {
		t.Error("keys are in a note")
	}
}

// On its survivor's machine a node keeps its names, and listens where it can.
func TestSettingsOfALostNodeFitItsSurvivorsMachine(t *testing.T) {
	c := aKit()
	c.Node.Name = "one"
	c.Settings = `
listen: {https: "192.0.2.7:8443", http: "127.0.0.1:8080"}
fleet: {name: node-1, listen: {peers: "192.0.2.7:8490", clients: "192.0.2.7:8491", join: "192.0.2.7:8492"}, snapshot_every: 2h}
`
	notes, err := settle(&c, "node-1", "10.0.0.2")
	if err != nil {
		t.Fatal(err)
	}
	var s Config
	if err := config.Parse("settled", []byte(c.Settings), &s); err != nil {
		t.Fatal(err)
	}
	if s.Listen.HTTPS != "10.0.0.2:8443" || s.Listen.HTTP != "127.0.0.1:8080" || s.Fleet.Listen != (DoorsConfig{}) || s.Fleet.Name != "node-1" || s.Node.Name != "one" {
		t.Errorf("%+v", s)
	}
	if time.Duration(s.Fleet.SnapshotEvery) != 2*time.Hour || !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, "192.0.2.7:8443") }) {
		t.Errorf("%+v %q", s.Fleet, notes)
	}
	c.Settings = "nonsense: 1"
	if _, err := settle(&c, "node-1", ""); problem.From(err).Code != "kit-settings" {
		t.Errorf("%v", err)
	}
}

func TestARecoveryByABundleSaysWhoTookOverFromWhom(t *testing.T) {
	c := aKit()
	c.KEKs[0].Key = make([]byte, 32)
	c.Targets = []kit.Target{{Config: target.Config{Name: "vault", Kind: "directory", Path: t.TempDir()}}}
	h := left(t, c)
	h.Doubts = []string{"Something is doubtful."}
	var steps []string
	r, err := takeOver(t.Context(), h, nil, taking{by: "local:uid=0", version: "v1"}, TakeOverOptions{From: "node-1", Reason: " the server burnt down ", DataDir: t.TempDir(), DryRun: true,
		Progress: func(step string, _, _ int64, _ string) { steps = append(steps, step) }})
	if r == nil || r.Taken == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Taken.By != "local:uid=0" || r.Taken.Reason != "the server burnt down" || r.Taken.From != "node-1" || r.Taken.To != "node-2" || !slices.Contains(r.Notes, "Something is doubtful.") {
		t.Errorf("%+v %q", r.Taken, r.Notes)
	}
	if text := r.Timeline(); !strings.Contains(text, "taken over: by node-2 from node-1") || !strings.Contains(text, "why: the server burnt down") || strings.Contains(text, "kit: set") {
		t.Error(text)
	}
	if !slices.Contains(steps, backup.StepKit) {
		t.Errorf("no progress was told: %q", steps)
	}
}
