package pgbackrest_test

import (
	"slices"
	"strings"
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
	if testing.Short() {
		t.Skip("runs a database")
	}
	t.Parallel()
	server := targettest.StartS3(t)
	server.LockedBucket(t, "locked", 2)
	at := server.Open(t, "bucket", "locked")
	at.S3.Endpoint = strings.Replace(at.S3.Endpoint, "127.0.0.1", "localhost", 1) // pgBackRest knows a server by its name only
	at.Lock = &target.LockConfig{Mode: target.ObjectLock, Days: 2}
	n := newNode(t, at)
	if err := n.engine.Prepare(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	n.write(t, "one")
	first := n.backup(t, at, engine.Full)
	n.write(t, "two")
	second := n.backup(t, at, engine.Full)
	before := time.Now().Add(time.Hour)
	gone, err := n.engine.Expire(t.Context(), at, engine.ExpireRequest{Before: before})
	if err != nil || !slices.Equal(gone.Gone, []string{first.Label}) || len(gone.KeptByLock) != 0 {
		t.Fatalf("%+v, %v", gone, err)
	}
	p, err := at.Purge(t.Context(), time.Now(), false)
	if err != nil || p.Gone != 0 || p.Kept == 0 || time.Until(p.Until) < 40*time.Hour {
		t.Errorf("while the lock lasts: %+v, %v", p, err)
	}
	if gone, err = n.engine.Expire(t.Context(), at, engine.ExpireRequest{Before: before}); err != nil || len(gone.Gone) != 0 {
		t.Errorf("once more: %+v, %v", gone, err)
	}

	server.LockEnds(t, "locked")
	was := p
	if p, err = at.Purge(t.Context(), time.Now(), false); err != nil || p.Gone < was.Kept || p.Kept != 0 {
		t.Errorf("when it is over: %+v, %v; it kept %d", p, err, was.Kept)
	}
	n.write(t, "three")
	n.settle(t, at)
	if err := n.engine.Check(t.Context(), at, nil); err != nil {
		t.Errorf("the engine's own check: %v", err)
	}
	to := place(t)
	if _, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{To: to, Label: second.Label}, nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("restored %q", got)
	}
}
