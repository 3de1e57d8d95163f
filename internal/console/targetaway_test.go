package console_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A disk for backups that is not mounted is on the first page, with what to do.
func TestTheOverviewSaysThatATargetIsAway(t *testing.T) {
	w := saved(t)
	v := w.visitor(t)
	place := w.backup.Targets[0].Path
	eventually(t, "the target to be accepted", func() bool {
		_, err := os.Stat(filepath.Join(place, "foundry-target.json"))
		return err == nil
	})
	if err := errors.Join(os.Rename(place, place+".away"), os.Mkdir(place, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/console/", "/console/backups"} {
		status, body := v.get(t, path)
		if status != 200 || !strings.Contains(body, "The target offsite is away") || !strings.Contains(body, "Mount it") {
			t.Errorf("%s: %d: %.2000s", path, status, body)
		}
	}
	// The first backup was under way, and may just have left something there.
	eventually(t, "the target to be back", func() bool { return errors.Join(os.RemoveAll(place), os.Rename(place+".away", place)) == nil })
	if _, body := v.get(t, "/console/"); strings.Contains(body, "offsite is away") {
		t.Error("the overview says that the target is away when it is back")
	}
}
