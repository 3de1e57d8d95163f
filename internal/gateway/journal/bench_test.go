package journal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDurable is what a request pays: append 200 bytes and wait for the disk.
func BenchmarkDurable(b *testing.B) {
	for _, appenders := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("appenders=%d", appenders), func(b *testing.B) {
			o := options(1)
			o.SegmentBytes, o.MaxBytes, o.MaxPending = 64<<20, 4<<30, 4<<20
			j := mustOpen(b, b.TempDir(), o)
			record := make([]byte, 200)
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			var wg sync.WaitGroup
			for w := range appenders {
				n := b.N / appenders
				if w < b.N%appenders {
					n++
				}
				wg.Go(func() {
					for range n {
						tk, err := j.Append(record)
						if err == nil {
							err = tk.Wait(context.Background())
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			st := j.Stats()
			b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/float64(st.Syncs), "records/sync")
			b.ReportMetric(float64(b.Elapsed())/float64(st.Syncs)/1e3, "µs/sync")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkAppend is Append alone: the disk hangs, and what waits for it is
// thrown away whenever it reaches its limit.
func BenchmarkAppend(b *testing.B) {
	o := options(1)
	o.SegmentBytes, o.MaxBytes, o.MaxPending = 64<<20, 1<<30, 4<<20
	var armed atomic.Bool
	hang := make(chan struct{})
	o.Intercept = func(op, _ string) error {
		if armed.Load() {
			<-hang
		}
		return nil
	}
	j := mustOpen(b, b.TempDir(), o)
	armed.Store(true)
	record := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.Append(record); err != nil {
			j.mu.Lock()
			j.filling.buf, j.filling.count = j.filling.buf[:0], 0
			j.mu.Unlock()
		}
	}
	j.mu.Lock()
	j.filling.buf, j.filling.count = j.filling.buf[:0], 0
	j.mu.Unlock()
	close(hang)
}

// BenchmarkRead is what shipping costs per record.
func BenchmarkRead(b *testing.B) {
	for _, perFrame := range []int{1, 100} {
		b.Run(fmt.Sprintf("frame=%d", perFrame), func(b *testing.B) {
			o := options(1)
			o.SegmentBytes, o.MaxPending = 4<<20, 1<<20
			o.MaxBytes = 64 << 20
			j := mustOpen(b, b.TempDir(), o)
			const n = 4000
			record := make([]byte, 200)
			var tk Ticket
			for i := range n {
				tk, _ = j.Append(record)
				if i%perFrame == perFrame-1 {
					_ = tk.Wait(context.Background())
				}
			}
			_ = tk.Wait(context.Background())
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				pos := Position{}
				for {
					before := pos
					pos, _ = j.Read(pos, 500, 1<<20, func(Entry) error { done++; return nil })
					if pos == before || done >= b.N {
						break
					}
				}
			}
		})
	}
}
