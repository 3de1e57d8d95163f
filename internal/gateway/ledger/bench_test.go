package ledger

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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
	server := dbtest.NewServer(b)
	d := dbtest.Open(b, server.Config())
	orgs := makeOrganisations(b, d, 10)
	n := newNode(b, d, b.TempDir(), 1, newExpectation())
	n.journal.Close(context.Background())
	n.segment = 64 << 20
	n.options.BatchEvents = batch
	n.start()
	defer n.stop()
	requests := 0
	write := func(k int) {
		var ids []RequestID
		for i := range k {
			id, _, err := n.rec.Admission(admission(orgs[i%10], i%2 == 0))
			if err != nil {
				b.Fatal(err)
			}
			ids = append(ids, id)
			if apart && i%batch != batch-1 && i != k-1 {
				continue
			}
			for _, id := range ids {
				o := outcome(1000)
				o.Seq = id.Seq
				if _, err := n.rec.Outcome(o); err != nil {
					b.Fatal(err)
				}
			}
			ids = ids[:0]
		}
		ticket, err := n.rec.Refusal(&Refusal{At: time.Now(), Organisation: orgs[0], Rule: "r", Status: 403})
		if err == nil {
			err = ticket.Wait(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
		requests += k
	}
	write(10 * batch) // plans, caches
	n.flush()
	requests = 0
	var postgres, here time.Duration
	for b.Loop() {
		for range 10 {
			write(2000)
		}
		p, h := treeCPU(b, server.Cluster().PID()), ownCPU()
		n.flush()
		postgres += treeCPU(b, server.Cluster().PID()) - p
		here += ownCPU() - h
	}
	b.ReportMetric(float64(postgres.Microseconds())/float64(requests), "pg-µs/request")
	b.ReportMetric(float64(here.Microseconds())/float64(requests), "here-µs/request")
	var bytes int64
	_ = d.Read(b.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(b.Context(), `SELECT pg_database_size(current_database()) / greatest((SELECT count(*) FROM requests), 1)`).Scan(&bytes)
	})
	b.ReportMetric(float64(bytes), "disk-B/request")
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
