package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

// begun is a data directory in which a join is at work that has keys already.
func begun(t *testing.T, before ...string) (string, *Joining) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range before {
		write(t, dir, name)
	}
	j, err := BeginJoin(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(Config{DataDir: dir}, nil); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "fleet/identity.sealed")
	write(t, dir, "keys.given/kek")
	return dir, j
}

func write(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func leftIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestAJoinThatWasRefusedLeavesNothing(t *testing.T) {
	dir, j := begun(t)
	if !j.Fresh {
		t.Error("a new data directory does not count as one")
	}
	if err := j.End(false); err != nil {
		t.Fatal(err)
	}
	if got := leftIn(t, dir); len(got) > 0 {
		t.Errorf("it left %q", got)
	}
}

func TestAJoinThatWasKilledIsTakenBackByTheNext(t *testing.T) {
	dir, _ := begun(t, "lock", "notes.txt")
	j, err := BeginJoin(dir)
	if err != nil || !j.Fresh {
		t.Fatalf("the next is given no keys: %v", err)
	}
	if got := leftIn(t, dir); len(got) != 3 { // joining.json, lock, notes.txt
		t.Errorf("left: %q", got)
	}
}

func TestWhatWasThereBeforeAJoinStays(t *testing.T) {
	dir, j := begun(t, "ca/ca.pem")
	if err := j.End(false); err != nil {
		t.Fatal(err)
	}
	if got := leftIn(t, dir); len(got) != 1 || got[0] != "ca" {
		t.Errorf("left: %q", got)
	}
	dir = t.TempDir()
	if _, err := OpenKeyring(Config{DataDir: dir}, nil); err != nil {
		t.Fatal(err)
	}
	j, err := BeginJoin(dir)
	if err != nil || j.Fresh {
		t.Fatalf("a node with keys counts as new: %v", err)
	}
	if err := j.End(false); err != nil || absent(filepath.Join(dir, "keys")) {
		t.Errorf("its keys are gone (%v)", err)
	}
}

// Whoever was killed between the end of a join and its last note, or started a
// node on what an interrupted join had left, loses nothing.
func TestKeysThatSomethingWasDoneWithAreNotTakenBack(t *testing.T) {
	for _, used := range []string{"node.json", "journal/1", "postgres/data/PG_VERSION", "fleet/fleet.json"} {
		dir, _ := begun(t)
		write(t, dir, used)
		j, err := BeginJoin(dir)
		if err != nil || j.Fresh {
			t.Errorf("%s: it counts as new (%v)", used, err)
		}
		if err := j.End(false); err != nil || absent(filepath.Join(dir, "keys")) || absent(filepath.Join(dir, used)) {
			t.Errorf("%s: what was in use is gone (%v)", used, err)
		}
	}
}

func TestAJoinThatEndedIsNotTakenBack(t *testing.T) {
	dir, j := begun(t)
	if err := j.End(true); err != nil {
		t.Fatal(err)
	}
	if err := takeBackJoin(dir); err != nil || absent(filepath.Join(dir, "keys")) || !absent(filepath.Join(dir, joiningFile)) {
		t.Errorf("%q, %v", leftIn(t, dir), err)
	}
}
