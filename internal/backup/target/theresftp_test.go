package target_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// A server whose own disk is not mounted looks like one that was never used.
func TestAServersDirectoryThatIsNotMountedIsAwayAndNotNew(t *testing.T) {
	server := targettest.StartSSH(t)
	at := server.Open(t, "files").Keep(filepath.Join(t.TempDir(), "targets"), target.Place{}, false)
	if err := at.Admit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := at.Admit(t.Context()); err != nil || !at.Accepted() {
		t.Fatalf("the second time: %v, accepted: %v", err, at.Accepted())
	}
	if err := os.Rename(at.Path, at.Path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := at.Admit(t.Context()); code(err) != "target-away" {
		t.Errorf("not mounted: %v", err)
	}
	if err := os.Mkdir(at.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := at.Admit(t.Context()); code(err) != "target-away" {
		t.Errorf("an empty mount point: %v", err)
	}
	if entries, err := os.ReadDir(at.Path); err != nil || len(entries) != 0 {
		t.Errorf("the mount point holds %v (%v)", entries, err)
	}
	if err := os.Remove(at.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at.Path+".away", at.Path); err != nil {
		t.Fatal(err)
	}
	if err := at.Admit(t.Context()); err != nil {
		t.Errorf("back again: %v", err)
	}
}
