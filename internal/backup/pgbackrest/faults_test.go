package pgbackrest_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/backup/pgbackrest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// one is a node with one prepared directory target.
func one(t *testing.T) (*node, target.Target) {
	t.Helper()
	at := directory(t, "near", filepath.Join(dbtest.Dir(t), "near"))
	n := newNode(t, at)
	if err := n.engine.Prepare(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	return n, at
}

func (n *node) backup(t testing.TB, at target.Target, kind engine.Type) engine.Point {
	t.Helper()
	p, err := n.engine.Backup(t.Context(), at, engine.BackupRequest{Type: kind}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What this engine is measured by: pgBackRest itself calls such a repository
// good, restores it, and the newest rows are gone without a word.
func TestARemovedSegmentIsFound(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.backup(t, at, engine.Full)
	for range 4 {
		n.write(t, "a mark")
		n.settle(t, at)
	}
	a, err := n.engine.Archive(t.Context(), at)
	if err != nil || len(a.Gaps) != 0 || len(a.Segments) < 5 {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := n.engine.Check(t.Context(), at, nil); err != nil {
		t.Fatalf("the whole repository: %v", err)
	}
	lost := a.Segments[len(a.Segments)-2].Name
	files, _ := filepath.Glob(filepath.Join(at.Path, "pgbackrest", "archive", "foundry", "15-1", "*", lost+"-*"))
	if len(files) != 1 {
		t.Fatalf("segment %s is in %q", lost, files)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	a, err = n.engine.Archive(t.Context(), at)
	if err != nil || len(a.Gaps) != 1 || a.Gaps[0].First != lost || a.Gaps[0].Last != lost || a.Gaps[0].After.IsZero() {
		t.Fatalf("gaps %v, %v; want just %s", a.Gaps, err, lost)
	}
	err = n.engine.Check(t.Context(), at, nil)
	if p := problem.From(err); !slices.Contains([]string{"archive-gap", "repository-damaged"}, p.Code) {
		t.Errorf("got %v", err)
	}
}

func TestAFlippedByteInTheRepositoryIsFound(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.write(t, "a mark")
	p := n.backup(t, at, engine.Full)
	files := slices.DeleteFunc(filesBelow(t, filepath.Join(at.Path, "pgbackrest", "backup", "foundry", p.Label)), func(path string) bool {
		return !strings.Contains(path, "/bundle/")
	})
	if len(files) == 0 {
		t.Fatal("the backup has no bundle")
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	err = n.engine.Check(t.Context(), at, nil)
	if p := problem.From(err); p.Code != "repository-damaged" {
		t.Errorf("got %v", err)
	}
	if _, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{To: place(t)}, nil); err == nil {
		t.Error("a damaged backup is restored without a word")
	}
}

// After a recovery to an earlier time the cluster goes on along a new timeline:
// its archive must have no gap, and what came after that time before is left out.
func TestTheNodeGoesOnFromARestoredPoint(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.write(t, "kept")
	first := n.backup(t, at, engine.Full)
	n.write(t, "kept too")
	wanted := moment()
	n.write(t, "to be left out")
	left := n.backup(t, at, engine.Full)
	n.settle(t, at)
	n.stop()

	dir := filepath.Join(n.dir, "postgres")
	for _, name := range []string{"data", "etc", "log", "run", "lock"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	done, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{Time: wanted, To: filepath.Join(dir, "data")}, nil)
	if err != nil || done.Point.Label != first.Label || done.Files == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	// Not yet replayed: started as it is, it would lose what is in the archive.
	if c, err := db.StartCluster(t.Context(), n.clusterOptions()); problem.From(err).Code != "recovery-unfinished" {
		if c != nil {
			_ = c.Stop(context.Background())
		}
		t.Fatalf("got %v, want recovery-unfinished", err)
	}
	c, err := db.StartRestored(t.Context(), db.RestoredOptions{Dir: dir, Live: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := marksOf(t, c); !slices.Equal(got, []string{"kept", "kept too"}) {
		t.Errorf("recovered %q", got)
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.write(t, "afterwards")
	n.settle(t, at)
	second := n.backup(t, at, engine.Full)
	if second.Timeline != 2 {
		t.Errorf("the backup after the recovery is on timeline %d", second.Timeline)
	}
	n.write(t, "at last")
	n.settle(t, at)
	a, err := n.engine.Archive(t.Context(), at)
	if err != nil || len(a.Gaps) != 0 || !slices.Equal(a.Histories, []uint32{2}) {
		t.Errorf("gaps %v, histories %v, %v", a.Gaps, a.Histories, err)
	}
	for name, c := range map[string]struct {
		r    engine.RestoreRequest
		want []string
	}{
		"the end":                  {engine.RestoreRequest{}, []string{"kept", "kept too", "afterwards", "at last"}},
		"from before the recovery": {engine.RestoreRequest{Label: first.Label}, []string{"kept", "kept too", "afterwards", "at last"}},
		"the branch that was left": {engine.RestoreRequest{Label: left.Label}, []string{"kept", "kept too", "to be left out"}},
	} {
		c.r.To = place(t)
		if _, err := n.engine.Restore(t.Context(), at, c.r, nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := read(t, c.r.To); !slices.Equal(got, c.want) {
			t.Logf("archived: %q", a.Names())
			t.Errorf("%s: restored %q, want %q", name, got, c.want)
		}
	}
}

// moment is a time with a second on both sides.
func moment() time.Time {
	<-time.NewTimer(1100 * time.Millisecond).C
	at := time.Now()
	<-time.NewTimer(1100 * time.Millisecond).C
	return at
}

func TestAnotherDatabasesRepositoryIsRefused(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.backup(t, at, engine.Full)
	other := newNode(t, at)
	other.engine = n.another(t, func(o *pgbackrest.Options) { // the same passphrase, another cluster
		o.Dir, o.Server = other.options.Dir, other.options.Server
	})
	if err := other.engine.Prepare(t.Context(), at); problem.From(err).Code != "repository-foreign" {
		t.Errorf("preparing: %v", err)
	}
	if _, err := other.engine.Backup(t.Context(), at, engine.BackupRequest{Type: engine.Full}, nil); problem.From(err).Code != "repository-foreign" {
		t.Errorf("backing up: %v", err)
	}
	if points, err := n.engine.Points(t.Context(), at); err != nil || len(points) != 1 {
		t.Errorf("%d points, %v", len(points), err)
	}
}

func TestAwkwardPathsWork(t *testing.T) {
	t.Parallel()
	at := directory(t, "near", filepath.Join(dbtest.Dir(t), `o'clock "quoted" \back %p`, "near"))
	n := newNode(t, at)
	if err := n.engine.Prepare(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	n.write(t, "a mark")
	n.backup(t, at, engine.Full)
	n.write(t, "another")
	n.settle(t, at)
	to := filepath.Join(dbtest.Dir(t), `a copy's "place" \ here`, "data")
	if _, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{To: to}, nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); !slices.Equal(got, []string{"a mark", "another"}) {
		t.Errorf("restored %q", got)
	}
}

func TestAFailedOrStoppedDatabaseIsNamed(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.stop()
	if _, err := n.engine.Backup(t.Context(), at, engine.BackupRequest{}, nil); problem.From(err).Code != "engine-database" {
		t.Errorf("got %v", err)
	}
	if _, err := n.engine.Points(t.Context(), at); err != nil {
		t.Errorf("points need no database: %v", err)
	}
}

// The liars are for the proofs made on copies. Here only: each of them reports
// success, and what it restores is not what was backed up.
func TestLiarsReportSuccess(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.write(t, "old")
	n.backup(t, at, engine.Full)
	n.settle(t, at)
	n.write(t, "new")
	n.settle(t, at)
	for _, lie := range []enginetest.Lie{enginetest.Nothing, enginetest.Empty} {
		l := &enginetest.Liar{Engine: n.engine, Lie: lie}
		p, err := l.Backup(t.Context(), at, engine.BackupRequest{Type: engine.Full}, nil)
		if err != nil || p.Label == "" {
			t.Fatalf("%d: %v", lie, err)
		}
		to := place(t)
		done, err := l.Restore(t.Context(), at, engine.RestoreRequest{Label: p.Label, To: to}, nil)
		if err != nil || done.Point.Label != p.Label || l.Check(t.Context(), at, nil) != nil {
			t.Errorf("%d: %+v, %v", lie, done, err)
		}
		if entries, _ := os.ReadDir(to); len(entries) != 0 {
			t.Errorf("%d: something was restored", lie)
		}
	}
	l := &enginetest.Liar{Engine: n.engine, Lie: enginetest.Stale}
	n.write(t, "newer")
	p, err := l.Backup(t.Context(), at, engine.BackupRequest{Type: engine.Full}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.settle(t, at)
	to := place(t)
	done, err := l.Restore(t.Context(), at, engine.RestoreRequest{Label: p.Label, To: to}, nil)
	if err != nil || done.Point.Label != p.Label {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := read(t, to); slices.Contains(got, "newer") {
		t.Errorf("the stale copy has %q", got)
	}
}
