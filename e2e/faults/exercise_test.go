//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
)

// exercised runs a scenario in a sandbox by the command, and reads what it
// left. A target may be missed on a machine that does other things.
func exercised(t *testing.T, scenario string) *exercise.Record {
	t.Helper()
	dir := filepath.Join(tempDir(t), "out")
	cmd := exec.Command(binary, "exercise", "run", scenario, "--out", dir, "--json")
	var out bytes.Buffer
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = &out, log
	err := cmd.Run()
	var told exercise.Record
	if jerr := json.Unmarshal(out.Bytes(), &told); jerr != nil {
		t.Fatalf("%v, %v: %s", err, jerr, log.tail(6000))
	}
	r, err := exercise.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r.Outcome != exercise.Passed && r.Outcome != exercise.Missed {
		t.Errorf("%s: %s %s\n%s", scenario, r.Outcome, r.Words, log.tail(6000))
	}
	for _, m := range r.Measures {
		result, target, kept := m.Words()
		t.Logf("%s: %s, target %s %s", m.Name, result, target, kept)
	}
	return r
}

const memberDies = `scenario member-dies "A member dies"
fleet {
	node one gateway fleet
	node two fleet
	node three witness
	service dns
}
target answers within 5s
sandbox {
	step "An ordinary night" {
		wait until gateways answers and database answers within 60s
		wait until two is fine and three is fine within 60s
		load 20 per second
	}
	step "A member dies" {
		kill two
		wait until two is suspected within 60s
		expect gateway of one answers
		load 0 per second
	}
}
`

// A sandbox is set up, broken and looked at, and leaves nothing behind.
func TestASandboxLeavesAReportAndNothingElse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(tempDir(t), "member-dies.scenario")
	if err := os.WriteFile(path, []byte(memberDies), 0o644); err != nil {
		t.Fatal(err)
	}
	r := exercised(t, path)
	if len(r.Measures) == 0 || r.Event.IsZero() {
		t.Errorf("nothing was measured: %+v", r)
	}
}

// The plan's scenarios, on real processes: what has to be so is so, whatever
// the machine's load, and the report verifies.
func TestEveryShippedScenarioPlaysOutInASandbox(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	if os.Getuid() != 0 {
		t.Skip("cutting networks takes root")
	}
	all, err := scenario.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if len(s.Sandbox) == 0 {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			if _, err := exec.LookPath("patroni"); err != nil && s.Fleet.Database == "patroni" {
				t.Skip("needs patroni: apt-get install --no-install-recommends patroni python3-idna postgresql")
			}
			r := exercised(t, s.Name)
			for _, f := range r.Facts {
				t.Logf("%s: %s", f.About, f.Says)
				if f.About == "Writes" && !f.Good && s.Fleet.Database == "patroni" {
					t.Errorf("with Patroni an acknowledged write is lost: %s", f.Says)
				}
				if f.About == "Fence" && !f.Good || f.About == "Checks" && !f.Good || f.About == "Notices" && !f.Good {
					t.Errorf("%s: %s", f.About, f.Says)
				}
			}
			if s.Name == "primary-lost" && len(r.Timelines) < 2 {
				t.Error("the fleet's own timeline is not in the report")
			}
		})
	}
}
