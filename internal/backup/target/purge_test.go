package target_test

import (
	"io"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

func content(t *testing.T, s target.Store, name string) string {
	t.Helper()
	r, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What was removed or replaced in a locked bucket stays as long as the lock
// lasts, is said to stay until then, and goes afterwards; what is there now
// stays always.
func TestALockedBucketKeepsWhatWasRemovedUntilTheLockEnds(t *testing.T) {
	server := targettest.StartS3(t)
	server.LockedBucket(t, "locked", 3)
	at := server.Open(t, "bucket", "locked")
	s := open(t, at)
	put := func(name, text string) {
		t.Helper()
		if err := s.Put(t.Context(), name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	put("there", "now")
	put("replaced", "old")
	put("replaced", "new")
	put("removed/it", "gone")
	if err := s.Delete(t.Context(), "removed/it"); err != nil {
		t.Fatal(err)
	}
	if p, err := at.Purge(t.Context(), time.Now(), true); err != nil || p.Gone != 0 || p.Kept != 2 {
		t.Errorf("a dry run: %+v, %v", p, err)
	}
	p, err := at.Purge(t.Context(), time.Now(), false)
	if err != nil || p.Gone != 0 || p.Kept != 2 || p.KeptBytes != 7 {
		t.Errorf("while it is locked: %+v, %v", p, err)
	}
	if days := time.Until(p.Until).Hours() / 24; days < 2.9 || days > 3.1 {
		t.Errorf("it is said to be locked for %.1f days", days)
	}

	server.LockEnds(t, "locked")
	if p, err = at.Purge(t.Context(), time.Now(), false); err != nil || p.Gone != 2 || p.GoneBytes != 7 || p.Kept != 0 {
		t.Errorf("when the lock is over: %+v, %v", p, err)
	}
	if p, err = at.Purge(t.Context(), time.Now(), false); err != nil || p.Gone != 0 || p.Kept != 0 || !p.Until.IsZero() {
		t.Errorf("once more: %+v, %v", p, err)
	}
	files, err := s.List(t.Context(), "")
	if err != nil || len(files) != 2 || files[0].Name != "replaced" || files[1].Name != "there" {
		t.Errorf("left are %+v, %v", files, err)
	}
	if got := content(t, s, "replaced"); got != "new" {
		t.Errorf("what replaced the old one is %q", got)
	}
}

func TestTargetsWithoutVersionsKeepNothing(t *testing.T) {
	server := targettest.StartS3(t)
	server.Bucket(t, "plain")
	at := server.Open(t, "bucket", "plain")
	s := open(t, at)
	if err := s.Put(t.Context(), "there", []byte("now")); err != nil {
		t.Fatal(err)
	}
	if p, err := at.Purge(t.Context(), time.Now(), false); err != nil || p.Gone != 0 || p.Kept != 0 {
		t.Errorf("a plain bucket: %+v, %v", p, err)
	}
	if got := content(t, s, "there"); got != "now" {
		t.Errorf("it holds %q", got)
	}
}
