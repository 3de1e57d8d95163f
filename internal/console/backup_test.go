package console_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/target"
)

// saved starts a node that has a place for backups.
func saved(t *testing.T, change ...func(*backup.Config)) *world {
	t.Helper()
	w := &world{keys: map[string]string{}, dir: t.TempDir()}
	t.Cleanup(w.stop)
	place := filepath.Join(w.dir, "offsite")
	if err := os.Mkdir(place, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := w.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { // the database's own user passes through
			t.Fatal(err)
		}
	}
	if u, err := user.Lookup("postgres"); err == nil && os.Getuid() == 0 {
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(place, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	w.backup = backup.Config{Targets: []target.Config{{Name: "offsite", Kind: target.Directory, Path: place, Supplier: "elsewhere", Country: "DE"}}}
	for _, do := range change {
		do(&w.backup)
	}
	if err := w.restart(); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestBackupsAreMadeProvenAndHeldInTheBrowser goes the way of an operator from
// "can I restore?" to a proof, and of a security lead to a hold.
func TestBackupsAreMadeProvenAndHeldInTheBrowser(t *testing.T) {
	w := saved(t)
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, w)

	// The node begins by itself; nothing is proven before a drill.
	w.open(t, ctx, "/console/backups", "Backups and recovery")
	says(t, ctx, "Can I restore?", "Where backups lie", "offsite")
	until(t, ctx, `document.querySelectorAll('.calendar li').length === 30`)
	eventually(t, "the first backups", func() bool {
		var points []backup.Point
		w.ask200(t, "GET", "/backups", nil, &points)
		return len(points) >= 2
	})
	eventually(t, "the node's own runs", func() bool {
		var s backup.Status
		w.ask200(t, "GET", "/backup-status", nil, &s)
		return len(s.Running) == 0
	})
	clean(t, ctx, "backups before a drill")

	// A full backup, with its progress.
	w.open(t, ctx, "/console/backups", "Backups and recovery")
	press(t, ctx, "Back up now")
	until(t, ctx, `location.pathname.startsWith('/console/backups/jobs/')`)
	says(t, ctx, "Database at offsite")
	until(t, ctx, `document.querySelector('.head .st')?.textContent.trim() === 'Done'`)
	clean(t, ctx, "a backup that is done")
	still := func() bool { // the node drills a new backup by itself
		var s backup.Status
		w.ask200(t, "GET", "/backup-status", nil, &s)
		return len(s.Running) == 0
	}

	// A drill of a moment that never was is refused in the form; the latest is proven.
	w.open(t, ctx, "/console/backups/drill", "Run a drill")
	clean(t, ctx, "the form of a drill")
	run(t, ctx, chromedp.SetValue(chromedp.CSS("#which"), "at"))
	press(t, ctx, "Start the drill")
	says(t, ctx, "needs the time")
	for pressed := false; !pressed; { // it may begin another between the look and the press
		eventually(t, "the node's own runs after the backup", still)
		run(t, ctx, chromedp.SetValue(chromedp.CSS("#which"), "latest"))
		press(t, ctx, "Start the drill")
		until(t, ctx, `location.pathname.startsWith('/console/backups/jobs/') || document.body.innerText.includes('is running already')`)
		pressed = eval[bool](t, ctx, `location.pathname.startsWith('/console/backups/jobs/')`)
	}
	until(t, ctx, `location.pathname.startsWith('/console/backups/jobs/')`)
	until(t, ctx, `[...document.querySelectorAll('main a')].some(a => a.textContent === 'What the drill proved')`)
	until(t, ctx, `document.querySelector('.head .st')?.textContent.trim() === 'Done'`)
	press(t, ctx, "What the drill proved")
	until(t, ctx, `document.querySelector('.head .st')?.textContent.trim() === 'Proven'`)
	says(t, ctx, "Sentinels.", "Page checksums.", "Write-ahead log.", "Signed record")
	clean(t, ctx, "a drill")
	var s backup.Status
	w.ask200(t, "GET", "/backup-status", nil, &s)
	if s.CanRestore.Outcome != backup.Pass || s.LastPassed == nil || s.NewestProven == nil {
		t.Errorf("after the drill the node says %+v", s.CanRestore)
	}
	w.open(t, ctx, "/console/backups", "Backups and recovery")
	says(t, ctx, "Can I restore? Yes. A restore from offsite was proven")
	clean(t, ctx, "backups after a drill")

	// The points, and a hold on one of them.
	w.open(t, ctx, "/console/backups/points?subject=database", "Recovery points")
	label := eval[string](t, ctx, `[...document.querySelectorAll('tbody tr')].find(r => r.innerText.includes('Proven')).querySelector('td.id').textContent.trim()`)
	clean(t, ctx, "recovery points")
	w.open(t, ctx, "/console/backups/hold", "Hold points")
	fill(t, ctx, map[string]string{"label": label, "ticket": "LEG-18", "reason": "short"})
	press(t, ctx, "Hold")
	until(t, ctx, `document.querySelector('.err') !== null`)
	fill(t, ctx, map[string]string{"reason": "Court order 14 C 220/26, until the case has ended."})
	clean(t, ctx, "the form of a hold")
	press(t, ctx, "Hold")
	until(t, ctx, `location.pathname === '/console/backups'`)
	says(t, ctx, label+" at every target", "LEG-18")
	if list := w.entries(t, "", "backup.hold"); len(list) != 1 || list[0].Outcome != "done" {
		t.Errorf("the audit log has %+v of the hold", list)
	}

	// Nothing is so old that it goes; removing wants a word.
	w.open(t, ctx, "/console/backups/expire", "Expire old points")
	clean(t, ctx, "expiry")
	fill(t, ctx, map[string]string{"confirm": "yes"})
	press(t, ctx, "Remove old points")
	says(t, ctx, "Type expire to go on")
	press(t, ctx, "Only list what would go")
	until(t, ctx, `location.pathname.startsWith('/console/backups/jobs/')`)
	until(t, ctx, `document.querySelector('.head .st')?.textContent.trim() === 'Done'`)
	saysNot(t, ctx, "Would be removed")

	// The hold ends.
	w.open(t, ctx, "/console/backups", "Backups and recovery")
	press(t, ctx, "Release the hold on "+label+" at every target")
	says(t, ctx, "removed at the next expiry")
	clean(t, ctx, "releasing a hold")
	fill(t, ctx, map[string]string{"reason": "The case has ended."})
	press(t, ctx, "Release")
	until(t, ctx, `location.pathname === '/console/backups'`)
	saysNot(t, ctx, "LEG-18")
	var holds []backup.Hold
	w.ask200(t, "GET", "/backup-holds", nil, &holds)
	if len(holds) != 1 || holds[0].Released == nil || !strings.Contains(holds[0].ReleaseReason, "ended") {
		t.Errorf("the holds are %+v", holds)
	}
}

func TestANodeWithoutATargetSaysThatEverythingWouldBeLost(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	signIn(t, ctx, w)
	w.open(t, ctx, "/console/backups", "Backups and recovery")
	says(t, ctx, "Can I restore? No.", "everything", "No target is configured")
	saysNot(t, ctx, "Back up now", "Run a drill", "Check the repositories", "Hold points")
	clean(t, ctx, "backups without a target")
}
