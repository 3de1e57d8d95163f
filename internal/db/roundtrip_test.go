package db_test

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// counter stands between a client and the server's socket and counts round
// trips: messages after which a client waits for an answer (Query and Sync of
// the PostgreSQL protocol, 55.2).
type counter struct{ trips atomic.Int64 }

// between starts a counter in front of the server of a configuration.
func (c *counter) between(t testing.TB, cfg db.Config) db.Config {
	t.Helper()
	host, rest, ok := strings.Cut(strings.TrimPrefix(cfg.DSN, "host='"), "' ")
	if !ok || !strings.HasPrefix(host, "/") || !strings.Contains(rest, "port=5432") {
		t.Fatalf("the test server is reached otherwise than expected: %s", cfg.DSN)
	}
	dir := dbtest.Dir(t)
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", filepath.Join(host, ".s.PGSQL.5432"))
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
			go func() { c.pass(server, client); _ = server.Close() }()
		}
	}()
	cfg.DSN = "host='" + dir + "' " + rest
	return cfg
}

// pass copies a client's messages and counts.
func (c *counter) pass(server io.Writer, client io.Reader) {
	head := make([]byte, 5)
	for started := false; ; started = true {
		begin := 0
		if !started {
			begin = 1 // the first message has no type
		}
		if _, err := io.ReadFull(client, head[begin:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[1:])
		body := make([]byte, size-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if started && (head[0] == 'Q' || head[0] == 'S') {
			c.trips.Add(1)
		}
		if _, err := server.Write(append(append([]byte{}, head[begin:]...), body...)); err != nil {
			return
		}
	}
}

// An organisation's transaction says whose it is in the round trip of its
// BEGIN: it costs no more than a transaction that says nothing.
func TestSayingWhoseTransactionItIsCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	var c counter
	cfg := c.between(t, dbtest.Config(t))
	cfg.MaxConns = map[db.Role]int32{db.App: 1}
	cfg.Heartbeat = 1 << 40 // no other traffic
	d := dbtest.Open(t, cfg)
	read := func(tx pgx.Tx) error {
		var n int
		return tx.QueryRow(t.Context(), "select count(*) from api_keys where name = $1", "x").Scan(&n)
	}
	nothing := func(pgx.Tx) error { return nil }
	org := uuid.New()
	measure := func(run func() error) int64 {
		t.Helper()
		for range 2 { // statements are prepared the first time
			if err := run(); err != nil {
				t.Fatal(err)
			}
		}
		before := c.trips.Load()
		if err := run(); err != nil {
			t.Fatal(err)
		}
		return c.trips.Load() - before
	}
	plain := measure(func() error { return d.As(t.Context(), db.App, read) })
	walled := measure(func() error { return d.Org(t.Context(), org, read) })
	bare := measure(func() error { return d.Org(t.Context(), org, nothing) })
	t.Logf("round trips: a statement in a plain transaction %d, in an organisation's %d; an organisation's transaction without a statement %d", plain, walled, bare)
	if walled != plain || walled != 3 || bare != 2 {
		t.Errorf("an organisation's transaction takes %d round trips, a plain one %d, without a statement %d", walled, plain, bare)
	}
}
