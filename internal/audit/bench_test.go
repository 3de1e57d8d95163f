package audit

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// production is a server that forces every commit to disk, as in earnest.
func production(b *testing.B) *db.DB {
	b.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "foundry-audit-bench-")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := db.StartCluster(ctx, db.ClusterOptions{Dir: dir + "/postgres", Superuser: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = c.Stop(ctx)
	})
	if err := db.Migrate(ctx, c.Config(), nil); err != nil {
		b.Fatal(err)
	}
	return dbtest.Open(b, c.Config())
}

// concurrently calls do b.N times from a number of writers and reports the
// rate.
func concurrently(b *testing.B, writers int, do func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

var benchDetails = map[string]string{"name": "production", "class_floor": "internal", "reason": "ticket 4711"}

// BenchmarkAppend is what a durable entry costs, against a plain INSERT of the
// same row into a table without a tree.
func BenchmarkAppend(b *testing.B) {
	d := production(b)
	l := openLog(b, options(d, b.TempDir()))
	if err := d.As(b.Context(), db.Migrator, func(tx pgx.Tx) error {
		_, err := tx.Exec(b.Context(), `CREATE TABLE plain (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), organisation uuid NOT NULL, actor text NOT NULL,
			act text NOT NULL, target text NOT NULL, outcome text NOT NULL, details jsonb NOT NULL); CREATE INDEX ON plain (organisation, id DESC); GRANT INSERT ON plain TO foundry_app`)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { _ = l.Run(ctx) })
	defer running.Wait()
	defer cancel()
	org := uuid.New()
	inTransaction := func(insert func(tx pgx.Tx, r *record) error) func() error {
		return func() error {
			r, err := newRecord(who, org, "key.create", "abcdefghij", Done, benchDetails)
			if err != nil {
				return err
			}
			return d.Org(ctx, org, func(tx pgx.Tx) error { return insert(tx, r) })
		}
	}
	plain := inTransaction(func(tx pgx.Tx, r *record) error {
		_, err := tx.Exec(ctx, `INSERT INTO plain (id, organisation, actor, act, target, outcome, details) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			r.id, r.org, r.actor, r.act, r.target, r.outcome, r.body)
		return err
	})
	append1 := inTransaction(func(tx pgx.Tx, r *record) error { return r.insert(ctx, tx) })
	record := func() error { return l.Record(ctx, who, org, "key.create", "abcdefghij", benchDetails) }
	for _, writers := range []int{1, 8, 512} {
		if writers < 512 { // more than the pool's connections only wait for one
			b.Run(fmt.Sprintf("plain/writers=%d", writers), func(b *testing.B) { concurrently(b, writers, plain) })
			b.Run(fmt.Sprintf("own-transaction/writers=%d", writers), func(b *testing.B) { concurrently(b, writers, append1) })
		}
		b.Run(fmt.Sprintf("grouped/writers=%d", writers), func(b *testing.B) { concurrently(b, writers, record) })
	}
}

// BenchmarkSequence is how fast what waits comes into the tree.
func BenchmarkSequence(b *testing.B) {
	d := production(b)
	l := openLog(b, options(d, b.TempDir()))
	for b.Loop() {
		b.StopTimer()
		for range 5 {
			appendMany(b, d, 1000)
		}
		b.StartTimer()
		if n, err := l.Sequence(b.Context()); err != nil || n != 5000 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(5000*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkVerify is an export verified offline, and the live database.
func BenchmarkVerify(b *testing.B) {
	d := dbtest.New(b)
	l := openLog(b, options(d, b.TempDir()))
	const entries = 200_000
	for range entries / 1000 {
		appendMany(b, d, 1000)
	}
	drain(b, l)
	text := export(b, l, ExportOptions{})
	key := l.log.vkey()
	b.Run("offline", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if r, err := VerifyArchive(b.Context(), strings.NewReader(text), ArchiveOptions{Keys: []string{key}}); err != nil || !r.OK || r.Entries != entries {
				b.Fatal(r, err)
			}
		}
		b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("live", func(b *testing.B) {
		for b.Loop() {
			if r, err := l.Verify(b.Context(), VerifyOptions{}); err != nil || !r.OK {
				b.Fatal(r, err)
			}
		}
		b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("export", func(b *testing.B) {
		for b.Loop() {
			if err := l.Export(b.Context(), io.Discard, ExportOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("prove", func(b *testing.B) {
		rows, err := Find(b.Context(), d, Filter{Limit: 1})
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := l.Prove(b.Context(), rows[0].ID); err != nil {
				b.Fatal(err)
			}
		}
	})
}
