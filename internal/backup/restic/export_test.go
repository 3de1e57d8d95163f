package restic

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/target"
)

// StartOf is when a process started.
func StartOf(pid int) string { return startOf(pid) }

// Note notes a run of a process that was started at some time, and returns the note's path.
func Note(t testing.TB, e *Engine, at target.Target, pid int, started string) string {
	n := e.noteRun(at, pid)
	n.Start = started
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return n.path
}
