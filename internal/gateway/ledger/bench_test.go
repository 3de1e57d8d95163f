package ledger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// BenchmarkShipping reports the CPU time that one request costs, from the
// journal to the tables: in PostgreSQL, all of its processes counted, and here.
// "merged" is a request whose outcome is in the same batch, "apart" one whose
// outcome comes a batch later.
func BenchmarkShipping(b *testing.B) {
	for _, apart := range []bool{false, true} {
		for _, batch := range []int{100, 1000, 5000} {
			name := map[bool]string{false: "merged", true: "apart"}[apart]
			b.Run(fmt.Sprintf("%s/%d", name, batch), func(b *testing.B) { benchmarkShipping(b, batch, apart) })
		}
	}
}

func benchmarkShipping(b *testing.B, batch int, apart bool) {
	server := productionServer(b)
	d := dbtest.Open(b, server.Config())
	orgs := makeOrganisations(b, d, 10)
	n := newNode(b, d, b.TempDir(), 1, newExpectation())
	n.journal.Close(context.Background())
	n.segment = 64 << 20
	n.options.BatchEvents = batch
	n.start()
	defer n.stop()
	requests := 0
	durable := func(t journal.Ticket, err error) {
		if err == nil {
			err = t.Wait(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	// write records k requests. It waits for the disk now and then: a writer
	// that never does is refused by the journal, as it should be.
	write := func(k int) {
		var ids []RequestID
		var last journal.Ticket
		var err error
		for i := range k {
			var id RequestID
			if id, last, err = n.rec.Admission(admission(orgs[i%10], i%2 == 0)); err != nil {
				b.Fatal(err)
			}
			if i%500 == 499 {
				durable(last, nil)
			}
			ids = append(ids, id)
			if apart && len(ids) < batch && i != k-1 {
				continue
			}
			for i, id := range ids {
				o := outcome(1000)
				o.Seq = id.Seq
				if last, err = n.rec.Outcome(o); err != nil {
					b.Fatal(err)
				}
				if i%500 == 499 {
					durable(last, nil)
				}
			}
			ids = ids[:0]
		}
		durable(last, nil)
		requests += k
	}
	write(10 * batch) // plans, caches
	n.flush()
	requests = 0
	var postgres, here time.Duration
	for b.Loop() {
		write(20_000) // a multiple of every batch: admissions fill one, outcomes the next
		p, h := treeCPU(b, server.PID()), ownCPU()
		n.flush()
		postgres += treeCPU(b, server.PID()) - p
		here += ownCPU() - h
	}
	b.ReportMetric(float64(postgres.Microseconds())/float64(requests), "pg-µs/request")
	b.ReportMetric(float64(here.Microseconds())/float64(requests), "here-µs/request")
	var bytes, late float64
	err := d.Read(b.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(b.Context(), `SELECT pg_database_size(current_database())::float8 / r.n, 100.0 * o.n::float8 / r.n
			FROM (SELECT count(*) n FROM requests) r, (SELECT count(*) n FROM request_outcomes) o`).Scan(&bytes, &late)
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(bytes, "disk-B/request")
	b.ReportMetric(late, "late-%") // measured: how many outcomes came in a later batch
}

// productionServer has the settings that an installation has, on a disk: those
// of dbtest leave out what a durable commit, full-page writes and autovacuum cost.
func productionServer(b *testing.B) *db.Cluster {
	b.Helper()
	dir, err := os.MkdirTemp("", "foundry-ledger-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // the server's user passes through
		b.Fatal(err)
	}
	c, err := db.StartCluster(b.Context(), db.ClusterOptions{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Stop(context.Background()) })
	if err := db.Migrate(b.Context(), c.Config(), nil); err != nil {
		b.Fatal(err)
	}
	return c
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// treeCPU is the time of a process and its children, in ticks of 10 ms.
func treeCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	root := strconv.Itoa(pid)
	children, err := os.ReadFile("/proc/" + root + "/task/" + root + "/children")
	if err != nil {
		b.Skip("no /proc to measure with")
	}
	var ticks int64
	for _, p := range append(strings.Fields(string(children)), root) {
		stat, err := os.ReadFile("/proc/" + p + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		ticks += user + system
		if p == root { // and of children that have ended, such as autovacuum's
			user, _ = strconv.ParseInt(f[13], 10, 64)
			system, _ = strconv.ParseInt(f[14], 10, 64)
			ticks += user + system
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func BenchmarkRecord(b *testing.B) {
	n := newNode(b, nil, b.TempDir(), 1, newExpectation())
	defer n.stop()
	a, o := anAdmission(), anOutcome(1)
	b.ReportAllocs()
	var last journal.Ticket
	for b.Loop() {
		_, t, err := n.rec.Admission(a)
		if err != nil { // the disk is slower than this loop
			<-last.Done()
			_ = n.journal.Release(journal.Position{Boot: 1, Seq: n.journal.Durable()})
			continue
		}
		last = t
		_, _ = n.rec.Outcome(o)
	}
}
