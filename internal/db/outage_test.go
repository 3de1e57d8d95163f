package db_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// wait waits for a condition that nothing announces.
func wait(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting until %s", what)
		}
	}
	return time.Since(start)
}

func waitHealthy(t *testing.T, d *db.DB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.WaitHealthy(ctx); err != nil {
		t.Fatal(err, errors.Unwrap(err))
	}
}

func TestKillingTheServerUnderLoadLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	d := dbtest.Open(t, s.Config())
	run(t, d, db.Migrator, things)
	calls := listen(t, d)
	org := uuid.New()

	var acknowledged, unknown sync.Map
	var written, failures atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				note := uuid.NewString()
				err := add(t.Context(), d, org, org, note)
				switch {
				case err == nil:
					acknowledged.Store(note, true)
					written.Add(1)
				case errors.Is(err, db.ErrCommitUnknown):
					unknown.Store(note, true)
				case errors.Is(err, db.ErrUnavailable):
					if failures.Add(1)%100 == 0 {
						_ = d.WaitHealthy(ctx)
					}
				default:
					t.Errorf("writing: %v", err)
					return
				}
			}
		})
	}
	wait(t, "writes flow", func() bool { return written.Load() > 200 })
	old := s.Cluster().PID()
	s.Kill()
	wait(t, "the failure is noticed", func() bool { return failures.Load() > 0 })
	before := written.Load()
	took := wait(t, "writes flow again", func() bool { return written.Load() > before+200 })
	cancel()
	wg.Wait()
	t.Logf("writes flowed again %v after the kill was noticed; %d failed meanwhile", took, failures.Load())

	if pid := s.Cluster().PID(); pid == old || pid == 0 {
		t.Errorf("the server is process %d, was %d", pid, old)
	}
	if n := s.Cluster().Restarts(); n != 1 {
		t.Errorf("restarted %d times, want 1", n)
	}
	heard(t, calls) // the reconnection: something may have changed meanwhile
	stored := map[string]bool{}
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		rows, _ := tx.Query(t.Context(), "select note from things")
		notes, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, n := range notes {
			stored[n] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	acknowledged.Range(func(note, _ any) bool {
		if !stored[note.(string)] {
			t.Errorf("an acknowledged row is gone: %v", note)
		}
		delete(stored, note.(string))
		return true
	})
	for note := range stored {
		if _, ok := unknown.Load(note); !ok {
			t.Errorf("a row is there that was reported as not written: %v", note)
		}
	}
}

func TestWithTheServerStoppedEverythingFailsFastAndComesBack(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	d := dbtest.Open(t, s.Config())
	nothing := func(pgx.Tx) error { return nil }
	calls := map[string]func() error{
		"Org":  func() error { return d.Org(t.Context(), uuid.New(), nothing) },
		"Read": func() error { return d.Read(t.Context(), nothing) },
		"Ship": func() error { return d.Ship(t.Context(), nothing) },
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Fatalf("%s before the outage: %v", name, err)
		}
	}
	s.Stop()
	for name, call := range calls { // at once, whether or not the heartbeat has noticed
		start := time.Now()
		err := call()
		if !errors.Is(err, db.ErrUnavailable) || problem.From(err).Kind != problem.Unavailable {
			t.Errorf("%s with the server stopped: %v, want ErrUnavailable", name, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s took %v to fail", name, took)
		}
	}
	wait(t, "the outage is noticed", func() bool { return !d.Healthy() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := d.WaitHealthy(ctx); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("WaitHealthy: %v", err)
	}
	s.Start()
	start := time.Now()
	waitHealthy(t, d)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("noticed the return after %v", took)
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s after the outage: %v", name, err)
		}
	}
}

func TestAFrozenServerHoldsNobodyForLong(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	cfg := s.Config()
	cfg.SilenceTimeout = 500 * time.Millisecond
	d := dbtest.Open(t, cfg)
	run(t, d, db.Migrator, things)
	org := uuid.New()
	frozen := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		result <- d.Org(context.Background(), org, func(tx pgx.Tx) error {
			close(frozen)
			for { // until a statement meets the frozen server
				if _, err := tx.Exec(context.Background(), "select count(*) from things"); err != nil {
					return err
				}
			}
		})
	}()
	<-frozen
	s.SignalAll(syscall.SIGSTOP)
	thaw := sync.OnceFunc(func() { s.SignalAll(syscall.SIGCONT) })
	defer thaw()
	select {
	case err := <-result:
		if !errors.Is(err, db.ErrUnavailable) {
			t.Errorf("a statement in flight: %v, want ErrUnavailable", err)
		}
	case <-time.After(patience):
		t.Fatal("a statement in flight is held for ever")
	}
	start := time.Now()
	if err := d.Org(t.Context(), org, func(pgx.Tx) error { return nil }); !errors.Is(err, db.ErrUnavailable) || time.Since(start) > time.Second {
		t.Errorf("a new transaction: %v after %v", err, time.Since(start))
	}
	thaw()
	waitHealthy(t, d)
	if err := add(t.Context(), d, org, org, "after"); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestOpenWithoutAServerWorksOnceThereIsOne(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	s.Stop()
	d, err := db.Open(t.Context(), s.Config(), dbtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Read(t.Context(), func(pgx.Tx) error { return nil }); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("Read: %v, want ErrUnavailable", err)
	}
	s.Start()
	waitHealthy(t, d)
	if err := db.CheckSchema(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func TestAnExternalServerThatIsNotThereIsUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cfg := db.Config{DSN: "postgres://" + address + "/foundry?sslmode=disable"}
	if err := db.Migrate(t.Context(), cfg, nil); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("Migrate: %v", err)
	}
	d, err := db.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := db.CheckRoles(t.Context(), d); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("CheckRoles: %v", err)
	}
}

func TestAServerThatTakesConnectionsAndSaysNothingHoldsNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := db.Config{DSN: "postgres://" + l.Addr().String() + "/foundry?sslmode=disable", ConnectTimeout: 100 * time.Millisecond}
	start := time.Now()
	d, err := db.Open(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Read(t.Context(), func(pgx.Tx) error { return nil }); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("Read: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestADiskThatFillsUpUnderLoadLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	for name, spare := range map[string]int64{
		"where a table cannot grow":              0,
		"where the write-ahead log cannot go on": 12 << 20, // less than a segment: the server panics and recovers
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fillUp(t, spare)
		})
	}
}

func fillUp(t *testing.T, spare int64) {
	disk := smallDisk(t, 160)
	o := options(t, filepath.Join(disk, "postgres"))
	o.Settings = map[string]string{"fsync": "off", "max_wal_size": "32MB", "min_wal_size": "32MB"}
	c := start(t, o)
	if err := db.Migrate(t.Context(), c.Config(), nil); err != nil {
		t.Fatal(err)
	}
	d := dbtest.Open(t, c.Config())
	run(t, d, db.Migrator, things)
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	info, err := os.Stat(ballast)
	if err == nil {
		err = os.Truncate(ballast, info.Size()-spare)
	}
	if err != nil {
		t.Fatal(err)
	}
	org := uuid.New()
	acknowledged := 0
	var failure error
	for i := 0; failure == nil && i < 10_000; i++ {
		failure = d.Org(t.Context(), org, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `insert into things (organisation_id, note)
				select $1, $2 || n || md5(n || '.' || $3::int) from generate_series(1, 20) n`, org, strings.Repeat("x", 1000), i)
			return err
		})
		if failure == nil {
			acknowledged += 20
		}
	}
	if !errors.Is(failure, db.ErrUnavailable) {
		t.Fatalf("with the disk full: %v, want ErrUnavailable", failure)
	}
	t.Logf("after %d rows: %v", acknowledged, failure)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	wait(t, "rows can be written again", func() bool { return add(t.Context(), d, org, org, "after") == nil })
	if err := d.Read(t.Context(), func(tx pgx.Tx) error {
		n, err := count(t.Context(), tx, "select count(*) from things")
		if n != acknowledged+1 && !(n == acknowledged+21 && errors.Is(failure, db.ErrCommitUnknown)) {
			t.Errorf("%d rows, acknowledged were %d and one afterwards", n, acknowledged)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestTransactionsEndSafelyWhateverTheHeartbeatDoes once brought the process
// down: the heartbeat reached for a connection that was being released.
func TestTransactionsEndSafelyWhateverTheHeartbeatDoes(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), dbtest.Config(t), nil) // a log would take the time in which it happens
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var working sync.WaitGroup
	for range 4 {
		working.Go(func() {
			for range 60 {
				err := d.Org(t.Context(), uuid.New(), func(tx pgx.Tx) error {
					_ = tx.Conn().Close(t.Context()) // nothing that follows waits for the network
					d.Flap()
					return errors.New("lost")
				})
				if !errors.Is(err, db.ErrUnavailable) {
					t.Errorf("got %v, want ErrUnavailable", err)
				}
			}
		})
	}
	working.Wait()
	if err := d.Org(t.Context(), uuid.New(), func(pgx.Tx) error { return nil }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	wait(t, "every connection is given back", func() bool { return d.Pool(db.App).Stat().AcquiredConns() == 0 })
}

func TestPoolsHoldNoDeadConnectionsAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	d := dbtest.Open(t, s.Config())
	calls := listen(t, d)
	pool := d.Pool(db.App)
	var wg sync.WaitGroup
	for range 5 { // at the same time, so that each has a connection of its own
		wg.Go(func() { _, _ = pool.Exec(t.Context(), "select pg_sleep(0.2)") })
	}
	wg.Wait()
	if n := pool.Stat().IdleConns(); n < 2 {
		t.Fatalf("%d idle connections", n)
	}
	s.Kill()
	heard(t, calls) // connected again
	for range 10 {
		if _, err := pool.Exec(t.Context(), "select 1"); err != nil {
			t.Errorf("a statement on the pool itself: %v", err)
		}
	}
}
