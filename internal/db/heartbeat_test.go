package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// patience bounds waits that succeed at once unless something is broken.
const patience = 20 * time.Second

// listen starts a listener and returns where its calls arrive, after the first.
func listen(t *testing.T, d *db.DB) <-chan time.Time {
	t.Helper()
	calls := make(chan time.Time, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Listen(ctx, 0, func() { calls <- time.Now() }) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	heard(t, calls)
	return calls
}

func heard(t *testing.T, calls <-chan time.Time) time.Time {
	t.Helper()
	select {
	case at := <-calls:
		return at
	case <-time.After(patience):
		t.Fatal("nothing was heard")
		panic("unreachable")
	}
}

func touch(t *testing.T, d *db.DB) {
	t.Helper()
	if err := d.Org(t.Context(), uuid.New(), func(tx pgx.Tx) error { return db.Touch(t.Context(), tx) }); err != nil {
		t.Fatal(err)
	}
}

func TestATouchIsHeardWithinASecondOfItsCommit(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	here, elsewhere := dbtest.Open(t, cfg), dbtest.Open(t, cfg)
	calls := listen(t, elsewhere)
	start := time.Now()
	touch(t, here)
	if took := heard(t, calls).Sub(start); took > time.Second {
		t.Errorf("heard after %v", took)
	} else {
		t.Logf("heard after %v", took)
	}
}

func TestATouchIsHeardWithoutPolling(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	cfg.Heartbeat = time.Hour
	d := dbtest.Open(t, cfg)
	calls := listen(t, d)
	touch(t, d)
	heard(t, calls)
}

func TestALostNotificationIsHeardFromTheCounter(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	calls := listen(t, d)
	start := time.Now()
	run(t, d, db.App, "update foundry_changes set value = value + 1 where shard = 3") // as Touch, but nobody is notified
	if took := heard(t, calls).Sub(start); took > time.Second {
		t.Errorf("heard after %v", took)
	}
}

func TestATouchThatIsRolledBackIsNotHeard(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	calls := listen(t, d)
	no := errors.New("no")
	for range 3 {
		if err := d.Org(t.Context(), uuid.New(), func(tx pgx.Tx) error {
			return errors.Join(db.Touch(t.Context(), tx), no)
		}); !errors.Is(err, no) {
			t.Fatal(err)
		}
	}
	touch(t, d)
	heard(t, calls)
	// The heartbeat has polled since the touch; what it had to say is said.
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		n, err := count(t.Context(), tx, "select sum(value)::int from foundry_changes")
		if n != 1 {
			t.Errorf("the counter stands at %d, want 1", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	// One touch may be heard twice, by its notification and from the counter.
	if len(calls) > 1 {
		t.Errorf("heard %d times more than touched", len(calls))
	}
}

func TestTouchesAtTheSameTimeAllCount(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				touch(t, d)
			}
		})
	}
	wg.Wait()
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		n, err := count(t.Context(), tx, "select sum(value)::int from foundry_changes")
		if n != 80 {
			t.Errorf("the counter stands at %d, want 80", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAListenerThatIsBusyHearsTheChangesAfterwards(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	started, release := make(chan struct{}, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Listen(ctx, 0, func() { started <- struct{}{}; <-release }) })
	<-started // the first call, which now blocks
	touch(t, d)
	touch(t, d)
	calls := listen(t, d)
	touch(t, d)
	heard(t, calls) // so the heartbeat has seen all three
	close(release)
	select {
	case <-started:
	case <-time.After(patience):
		t.Error("changes during a call were forgotten")
	}
	cancel()
	wg.Wait()
}

func TestListenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); d.Listen(ctx, 0, cancel) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("Listen did not return")
	}
}
