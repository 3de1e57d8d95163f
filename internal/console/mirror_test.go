package console_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// TestMirrorsAreFetchedProvenAndPushedAndTargetsTriedInTheBrowser goes the way
// of somebody whose Git server is gone: is the mirror fresh, is it whole, and
// onto the new server with it.
func TestMirrorsAreFetchedProvenAndPushedAndTargetsTriedInTheBrowser(t *testing.T) {
	repositories := t.TempDir()
	bare := func(name string) string {
		path := filepath.Join(repositories, name)
		targettest.Run(t, "", "git", "init", "--quiet", "--bare", "--initial-branch=main", path)
		return path
	}
	app := bare("app.git")
	newest := targettest.Commit(t, app, "main", "main.go", "package main")
	w := saved(t, func(c *backup.Config) {
		c.Mirrors = []mirror.Config{{Name: "app", URL: "file://" + app, Build: []string{"test", "-f", "main.go"}}, {Name: "gone", URL: "file://" + filepath.Join(repositories, "gone.git")}}
	})
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, w)

	w.open(t, ctx, "/console/backups/mirrors", "Mirrors of code")
	clean(t, ctx, "mirrors")
	press(t, ctx, "Fetch now: gone")
	until(t, ctx, `location.pathname === '/console/backups/mirrors/gone'`)
	says(t, ctx, "The last fetch failed", "Never fetched")
	clean(t, ctx, "a mirror whose server is gone")
	pictured(t, ctx, "mirror-gone")

	w.open(t, ctx, "/console/backups/mirrors", "Mirrors of code")
	press(t, ctx, "Fetch now: app")
	says(t, ctx, "Fresh", newest[:12])
	press(t, ctx, "Prove now: app")
	says(t, ctx, "What was proven here", "It builds.", "Git fsck --full")
	clean(t, ctx, "a mirror that is proven")
	pictured(t, ctx, "mirror-proven")

	// Onto a server that refuses, then onto one that takes it.
	full := bare("full.git")
	targettest.Commit(t, full, "main", "other", "1")
	press(t, ctx, "Bring to another server")
	clean(t, ctx, "the form of a push")
	fill(t, ctx, map[string]string{"to": "http://example.org/x.git", "password": "guess me", "reason": "The old server burned down."})
	press(t, ctx, "Push")
	says(t, ctx, "Repositories are mirrored over https and ssh only.")
	if typed := eval[string](t, ctx, `document.querySelector('#password').value`); typed != "" {
		t.Errorf("the form shows the password again: %q", typed)
	}
	clean(t, ctx, "a push that was refused")
	pictured(t, ctx, "mirror-push")
	fill(t, ctx, map[string]string{"to": "file://" + full})
	press(t, ctx, "Push")
	says(t, ctx, "is not empty. It was not touched.")
	press(t, ctx, "Bring to another server")
	fill(t, ctx, map[string]string{"to": "file://" + bare("new.git"), "reason": "The old server burned down."})
	press(t, ctx, "Push")
	says(t, ctx, "1 branch or tag, compared one by one")
	if got := strings.TrimSpace(targettest.Run(t, filepath.Join(repositories, "new.git"), "git", "rev-parse", "refs/heads/main")); got != newest {
		t.Errorf("the new server has %q, want %q", got, newest)
	}
	pictured(t, ctx, "mirror-pushed")
	w.open(t, ctx, "/console/backups/mirrors", "Mirrors of code")
	pictured(t, ctx, "mirrors")
	for act, times := range map[string]int{"backup.fetch": 2, "backup.prove": 1, "backup.mirror-proof": 1, "backup.push": 2, "backup.mirror-pushed": 2} {
		if list := w.entries(t, "", act); len(list) != times {
			t.Errorf("the audit log has %d entries of %s, want %d: %+v", len(list), act, times, list)
		}
	}

	// The target, as it is, and gone.
	w.open(t, ctx, "/console/backups", "Backups and recovery")
	press(t, ctx, "Try every target now")
	says(t, ctx, "reachable, writable", "not apart from the data", "this node can delete what is there")
	clean(t, ctx, "a target that was tried")
	pictured(t, ctx, "backups-tried")
	place := w.backup.Targets[0].Path
	if err := os.Rename(place, place+"-away"); err != nil {
		t.Fatal(err)
	}
	press(t, ctx, "Try every target now")
	says(t, ctx, "not reachable")
	if err := os.Rename(place+"-away", place); err != nil {
		t.Fatal(err)
	}
	var tried []backup.TargetProbe
	w.ask200(t, http.MethodPost, "/backup-probes", backup.TargetRequest{}, &tried)
	if len(tried) != 1 || !tried[0].Writable || tried[0].Free <= 0 || tried[0].Outcome != backup.Inconclusive {
		t.Errorf("back again: %+v", tried)
	}
}
