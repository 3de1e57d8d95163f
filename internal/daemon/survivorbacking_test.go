package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
)

// What was left names a target from which nothing can be restored here: that is
// said, and nothing is made on the way.
func TestBackupsThatCannotBeRestoredHereAreSaidToBe(t *testing.T) {
	here := t.TempDir()
	if err := os.Chmod(here, 0o755); err != nil {
		t.Fatal(err)
	}
	gone, empty := filepath.Join(here, "gone"), filepath.Join(here, "empty")
	if err := os.Mkdir(empty, 0o777); err != nil {
		t.Fatal(err)
	}
	for place, path := range map[string]string{"a directory that is not there": gone, "a directory without backups": empty} {
		c := aKit()
		c.KEKs[0].Key = make([]byte, 32)
		c.Targets = []kit.Target{{Config: target.Config{Name: "vault", Kind: "directory", Path: path}}}
		c.Passphrases = map[string][]byte{kit.PassphraseName("vault", "pgbackrest"): []byte("long enough to be a passphrase"), kit.PassphraseName("vault", "restic"): []byte("another one")}
		h := left(t, c)
		data := t.TempDir()
		b := backingOf(t.Context(), h, taking{by: "node"}, data)
		if b.Error == "" || b.External || b.Label != "" || b.Of != h.Digest {
			t.Errorf("%s: %+v", place, b)
		}
		if !strings.Contains(b.Error, "vault") {
			t.Errorf("%s: it does not say which: %q", place, b.Error)
		}
		for _, path := range []string{gone, filepath.Join(data, "takeover")} {
			if !absent(path) {
				t.Errorf("%s: it made %s", place, path)
			}
		}
	}
	c := aKit()
	c.PostgreSQL, c.KEKs[0].Key = 0, make([]byte, 32)
	if b := backingOf(t.Context(), left(t, c), taking{by: "node"}, t.TempDir()); !b.External || b.Error != "" {
		t.Errorf("a node whose database is elsewhere: %+v", b)
	}
}

func TestBackupsAreLookedAtRarelyWhereAllIsWellAndSoonWhereNot(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	var b backings
	held := map[string]string{"one": "a", "two": "b"}
	look := func(from, of, why string) bool {
		return b.note(from, survivor.Backing{At: now, Of: of, Error: why})
	}
	due := func(after time.Duration, want string) {
		t.Helper()
		if got := strings.Join(b.keep(held, now.Add(after)), " "); got != want {
			t.Errorf("after %s: %q, not %q", after, got, want)
		}
	}
	due(0, "one two")
	if !look("one", "a", "") || !look("two", "b", "it is gone") {
		t.Error("what was found first is not told")
	}
	due(14*time.Second, "")
	due(15*time.Second, "two")
	due(30*time.Minute, "one two")
	if look("two", "b", "it is gone") {
		t.Error("the same is told again")
	}
	due(29*time.Second, "")
	due(30*time.Second, "two")
	for range 40 {
		look("two", "b", "it is gone")
	}
	due(29*time.Minute, "")
	held["two"] = "c" // it has left something else
	due(0, "two")
	for range 2 {
		if !look("two", "c", "") {
			t.Error("what was found again is not told, and would be held to be old")
		}
	}
	delete(held, "one")
	due(0, "")
	if _, is := b.found()["one"]; is {
		t.Error("what is not held any more is told")
	}
}

func TestADatabaseThatIsDownForAMomentIsStillThisNodes(t *testing.T) {
	k := &keeper{dir: filepath.Join(t.TempDir(), "postgres")}
	d := &Daemon{follower: follower{keeper: k}}
	if got := d.databaseFiles(); got != "" {
		t.Errorf("without any: %q", got)
	}
	write(t, k.dir, "data/PG_VERSION")
	if got := d.databaseFiles(); got != filepath.Join(k.dir, "data") {
		t.Errorf("while it is down: %q", got)
	}
	if err := k.write(office{Epoch: 1, Replaced: "two is the primary"}); err != nil {
		t.Fatal(err)
	}
	if got := d.databaseFiles(); got != "" {
		t.Errorf("of an earlier epoch: %q", got)
	}
}
