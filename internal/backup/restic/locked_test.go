package restic_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// An expiry in a bucket with object lock ends well and loses nothing that is
// needed; the bucket keeps what it removed until the lock is over, and then it
// can be removed for good.
func TestAnExpiryInALockedBucketIsNoFailure(t *testing.T) {
	t.Parallel()
	server := targettest.StartS3(t)
	server.LockedBucket(t, "locked", 2)
	at := server.Open(t, "bucket", "locked")
	at.Lock = &target.LockConfig{Mode: target.ObjectLock, Days: 2}
	e := newEngine(t)
	must(t, e.Prepare(t.Context(), at))
	source := tree(t, "first")
	first := kept(t, e, at, source)
	must(t, os.WriteFile(filepath.Join(source, "secret.key"), []byte("second"), 0o600))
	second := kept(t, e, at, source)
	gone, err := e.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	must(t, err)
	if len(gone.Gone) != 1 || gone.Gone[0] != first.Label || len(gone.KeptByLock) != 0 {
		t.Errorf("%+v", gone)
	}
	p, err := at.Purge(t.Context(), time.Now(), false)
	must(t, err)
	if p.Gone != 0 || p.Kept == 0 || time.Until(p.Until) < 40*time.Hour {
		t.Errorf("while the lock lasts: %+v", p)
	}
	gone, err = e.Expire(t.Context(), at, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	must(t, err)
	if len(gone.Gone) != 0 {
		t.Errorf("once more: %+v", gone)
	}

	server.LockEnds(t, "locked")
	was := p
	p, err = at.Purge(t.Context(), time.Now(), false)
	must(t, err)
	if p.Gone < was.Kept || p.Kept != 0 {
		t.Errorf("when it is over: %+v, and it kept %d", p, was.Kept)
	}
	must(t, e.Check(t.Context(), at, nil))
	to := filepath.Join(t.TempDir(), "new")
	_, err = e.Restore(t.Context(), at, engine.RestoreRequest{Label: second.Label, To: to}, nil)
	must(t, err)
	if text, err := os.ReadFile(filepath.Join(to, source, "secret.key")); err != nil || string(text) != "second" {
		t.Errorf("the restored file holds %q (%v)", text, err)
	}
}
