package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// restoredLog is a log that has signed 350 leaves over a database that came
// back with 300.
func restoredLog(t *testing.T) (l *Log, d *db.DB, root *pgx.Conn, came Restored, dir string) {
	cfg := dbtest.Config(t)
	d, root = dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	dir = t.TempDir()
	l = openLog(t, options(d, dir))
	appendMany(t, d, 300)
	drain(t, l)
	before, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	appendMany(t, d, 50)
	drain(t, l)
	for _, sql := range []string{`DELETE FROM audit WHERE id IN (SELECT ref FROM audit_leaves WHERE leaf >= $1)`, `DELETE FROM audit_leaves WHERE leaf >= $1`, `DELETE FROM audit_nodes WHERE (n + 1) << level > $1`} {
		if _, err := root.Exec(t.Context(), sql, before.Size); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.Exec(t.Context(), `UPDATE audit_checkpoints SET size = $1, root = $2, note = $3`, before.Size, before.Root[:], before.Note); err != nil {
		t.Fatal(err)
	}
	appendMany(t, d, 10)
	if _, err := l.Sequence(t.Context()); codeOf(err) != "audit-tree-behind" {
		t.Fatalf("got %v", err)
	}
	return l, d, root, Restored{before.Size, before.Root.String(), "rec-1"}, dir
}

func told([]Aside) error { return nil }

func TestALogGoesOnFromARestoreOnceWhatIsGoneIsSetAside(t *testing.T) {
	t.Parallel()
	l, d, _, came, dir := restoredLog(t)
	newest, _ := l.Checkpoint()
	if _, err := l.SetAside(t.Context(), came, func([]Aside) error { return errors.New("nobody hears it") }); err == nil {
		t.Error("it was set aside though nobody could be told")
	}
	if c, _ := l.Checkpoint(); c.Note != newest.Note {
		t.Error("it was set aside before anybody was told")
	}
	gone, err := l.SetAside(t.Context(), came, told)
	if err != nil {
		t.Fatal(err)
	}
	if len(gone) == 0 || gone[len(gone)-1].Size != newest.Size || gone[0].Restored != came.Size || gone[0].By != "rec-1" {
		t.Errorf("set aside %+v", gone)
	}
	kept, err := os.ReadFile(filepath.Join(dir, asideFile))
	if err != nil || !strings.Contains(string(kept), newest.Root.String()) {
		t.Errorf("the evidence is not kept: %v", err)
	}
	for _, l := range []*Log{l, openLog(t, options(d, dir))} { // running on, and restarted
		appendMany(t, d, 70)
		drain(t, l)
		if r := verify(t, l); !r.OK {
			t.Errorf("findings %+v", r.Findings)
		}
		if err := l.CheckHistory(t.Context()); err != nil {
			t.Error(err)
		}
		if gone, err := l.SetAside(t.Context(), came, told); err != nil || len(gone) > 0 {
			t.Errorf("again: %v, %v", gone, err)
		}
	}
}

func TestANodeThatHearsLateFindsTheOtherTreeLongerAlready(t *testing.T) {
	t.Parallel()
	l, d, _, came, dir := restoredLog(t)
	// A node that had signed nothing of what is gone goes on at once.
	other := openLog(t, options(d, t.TempDir()))
	appendMany(t, d, 90)
	drain(t, other)
	if _, err := l.Sequence(t.Context()); codeOf(err) != "audit-tree-forked" {
		t.Fatalf("got %v", err)
	}
	if gone, err := l.SetAside(t.Context(), came, told); err != nil || len(gone) == 0 {
		t.Fatalf("%v, %v", gone, err)
	}
	drain(t, l)
	if r := verify(t, openLog(t, options(d, dir))); !r.OK {
		t.Errorf("findings %+v", r.Findings)
	}
}

func TestARestoreIsNoExcuseForWhatItDoesNotExplain(t *testing.T) {
	t.Parallel()
	l, _, root, came, dir := restoredLog(t)
	refused := func(name string, r Restored, code string) {
		t.Helper()
		before, _ := l.Checkpoint()
		if _, err := l.SetAside(t.Context(), r, told); codeOf(err) != code {
			t.Errorf("%s: got %v, want %s", name, err, code)
		}
		if after, _ := l.Checkpoint(); after.Note != before.Note {
			t.Errorf("%s: the newest checkpoint is gone", name)
		}
		if _, err := os.Stat(filepath.Join(dir, asideFile)); err == nil {
			t.Errorf("%s: something was set aside", name)
		}
	}
	refused("another root", Restored{came.Size, strings.Repeat("A", 43) + "=", "rec-1"}, "audit-tree-forked")
	refused("no root", Restored{came.Size, "no", "rec-1"}, "audit-restored-root")
	refused("more than is there", Restored{came.Size + 1, came.Root, "rec-1"}, "audit-tree-behind")
	// Somebody uses the hour of the restore, and takes more away than it did.
	if _, err := root.Exec(t.Context(), `DELETE FROM audit_leaves WHERE leaf >= $1`, came.Size-100); err != nil {
		t.Fatal(err)
	}
	refused("cut shorter than it came back", came, "audit-tree-behind")
	if _, err := root.Exec(t.Context(), `UPDATE audit_leaves SET hash = sha256('x') WHERE leaf = 5`); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Exec(t.Context(), `INSERT INTO audit_leaves SELECT n, 1, gen_random_uuid(), sha256(int4send(n)) FROM generate_series($1::int, $2::int) n`, came.Size-100, came.Size+200); err != nil {
		t.Fatal(err)
	}
	refused("other leaves in its place", came, "audit-tree-forked")
}
