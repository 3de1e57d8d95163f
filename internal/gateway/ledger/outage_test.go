package ledger

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// TestADatabaseKilledUnderLoadCostsNoRow kills PostgreSQL while requests are
// recorded and shipped, and stops it for a while: requests go on, and in the
// end every one is there once.
func TestADatabaseKilledUnderLoadCostsNoRow(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	d := dbtest.Open(t, server.Config())
	orgs := makeOrganisations(t, d, 2)
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer n.stop()
	n.shipper.o.GatherIdle, n.shipper.o.BatchEvents = time.Millisecond, 50
	shipping, stopShipping := context.WithCancel(t.Context())
	var shipper, load sync.WaitGroup
	shipper.Go(func() { _ = n.shipper.Run(shipping) })
	var mu sync.Mutex // of the expectation
	written, stopLoad := make(chan struct{}, 1), make(chan struct{})
	for i := range 4 {
		load.Go(func() {
			for {
				select {
				case <-stopLoad:
					return
				default:
				}
				if err := work(t.Context(), n, orgs[i%2], &mu); err != nil {
					t.Errorf("a request failed because the database is away: %v", err)
					return
				}
				select {
				case written <- struct{}{}:
				default:
				}
			}
		})
	}
	some := func() {
		for range 40 {
			<-written
		}
	}
	some()
	eventually(t, func() bool { return n.shipper.Queue().Shipped.Seq > 0 })
	for range 3 {
		before := server.Cluster().Restarts()
		server.Kill()
		some()
		eventually(t, func() bool { return server.Cluster().Restarts() > before && server.Cluster().PID() != 0 })
		mustBeHealthy(t, d)
		some()
	}
	server.Stop()
	some()
	var q Queue
	defer func() { t.Logf("the queue was %+v", q) }()
	eventually(t, func() bool { // the queue says that it is behind
		q = n.shipper.Queue()
		return errors.Is(q.Failure, db.ErrUnavailable) && q.Events > 0 && q.Age > 0 && q.Shipped.Seq > 0
	})
	server.Start()
	mustBeHealthy(t, d)
	some()
	close(stopLoad)
	load.Wait()
	if err := n.shipper.Wait(t.Context(), journal.Position{Boot: n.boot, Seq: n.journal.Durable()}); err != nil {
		t.Fatal(err)
	}
	stopShipping()
	shipper.Wait()
	e.verify(t, d)
	if q = n.shipper.Queue(); q.Failure != nil || q.Age != 0 || q.Events != 0 {
		t.Errorf("the queue is %+v", q)
	}
	t.Logf("%d records, over 4 outages", e.records)
}

// work is one request: durable before it is answered, and again at its end.
func work(ctx context.Context, n *node, org uuid.UUID, mu *sync.Mutex) error {
	a := admission(org, false)
	id, ticket, err := n.rec.Admission(a)
	if err != nil {
		return err
	}
	if err := ticket.Wait(ctx); err != nil {
		return err
	}
	o := outcome(100)
	o.Seq = id.Seq
	ended, err := n.rec.Outcome(o)
	if err != nil {
		return err
	}
	if err := ended.Wait(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	n.expect.admitted(id, a)
	n.expect.ended(id, o)
	n.expect.records += 2
	return nil
}

func mustBeHealthy(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.WaitHealthy(ctx); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition that nothing signals.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatal("it never became true")
		}
		wait(ctx, 5*time.Millisecond)
	}
}

func TestAShipperThatWaitsWakesWhenSomethingIsWritten(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer n.stop()
	n.shipper.o.GatherIdle = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var shipper sync.WaitGroup
	shipper.Go(func() { _ = n.shipper.Run(ctx) })
	for range 3 {
		n.admit(admission(org, true))
		if err := n.shipper.Wait(t.Context(), journal.Position{Boot: n.boot, Seq: n.journal.Durable()}); err != nil {
			t.Fatal(err)
		}
		eventually(t, n.shipper.idle)
	}
	cancel()
	shipper.Wait()
	e.verify(t, d)
}

// TestAStartWithoutADatabaseCountsWhatEarlierBootsLeft: an operator who looks
// at a node that started in an outage must not read that nothing waits.
func TestAStartWithoutADatabaseCountsWhatEarlierBootsLeft(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	d := dbtest.Open(t, server.Config())
	org := makeOrganisations(t, d, 1)[0]
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer func() { n.stop() }()
	n.finish(n.admit(admission(org, true)), outcome(1))
	n.flush()
	n.finish(n.admit(admission(org, true)), outcome(1))
	server.Stop()
	n.reboot()
	n.admit(admission(org, true))
	if err := n.shipper.Flush(t.Context()); !errors.Is(err, db.ErrUnavailable) {
		t.Fatalf("shipping without a database: %v", err)
	}
	// It cannot know yet that two of the five are shipped: at most five.
	if q := n.shipper.Queue(); q.Events != 5 {
		t.Errorf("%d events wait, want 5", q.Events)
	}
	server.Start()
	mustBeHealthy(t, d)
	n.flush()
	if q := n.shipper.Queue(); q.Events != 0 {
		t.Errorf("%d events wait after shipping", q.Events)
	}
	e.verify(t, d)
}

// TestWhatAnEarlierBootShippedIsReleasedWithoutNewRecords: a node that nobody
// asks anything must not keep old segments for ever.
func TestWhatAnEarlierBootShippedIsReleasedWithoutNewRecords(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer func() { n.stop() }()
	n.finish(n.admit(admission(org, true)), outcome(1))
	n.shipper.o.Release = func(journal.Position) error { return nil } // killed before it could
	n.flush()
	n.reboot()
	if !n.journal.Stats().Unreleased {
		t.Fatal("the earlier boot's segment is gone already: nothing is tested")
	}
	n.flush()
	if n.journal.Stats().Unreleased {
		t.Error("the earlier boot's segment is still there")
	}
}
