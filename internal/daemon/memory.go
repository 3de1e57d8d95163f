package daemon

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// settle gives back what only starting needed: free memory of the heap, and
// the pages of the program itself. Go touches every package when a process
// starts, so nearly all of the program is mapped, and serving uses a third.
func (d *Daemon) settle() {
	debug.FreeOSMemory()
	dropPages(ownPages())
}

// ownPages are the mappings of this program that can be given back; none where
// there is no /proc.
func ownPages() []mapping {
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	return programPages(maps, program)
}

// dropPages gives pages of the program back. They stay in the kernel's cache,
// and are mapped again, sixteen at a time, when they are used; madvise(2),
// MADV_DONTNEED.
func dropPages(program []mapping) {
	for _, m := range program {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// programPages finds, in the text of /proc/self/smaps, the mappings of the
// program that cannot be written and of which no page differs from the file:
// a page that does (a relocation) would be lost.
func programPages(smaps []byte, program string) (out []mapping) {
	var at mapping
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			at = mapping{}
			from, to, _ := strings.Cut(f[0], "-")
			a, errA := strconv.ParseUint(from, 16, int(unsafe.Sizeof(at.from))*8)
			b, errB := strconv.ParseUint(to, 16, int(unsafe.Sizeof(at.from))*8)
			if errA == nil && errB == nil && len(f) == 6 && f[5] == program && (f[1] == "r-xp" || f[1] == "r--p") {
				at = mapping{uintptr(a), uintptr(b)}
			}
		case len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0" && at.to > at.from:
			out = append(out, at)
		}
	}
	return out
}

// leastMemory is what a node may take before the collector works harder than
// it would by itself: with the program's own pages, 62 to 66 MiB. Under load
// the heap lives on 10 to 18 MiB of it.
const leastMemory = 32 << 20

// memoryLimit leaves a busy node room: a limit close to what is alive would
// make the collector run all the time.
func memoryLimit(live uint64) int64 {
	return int64(max(leastMemory, live*2))
}

// dropEvery is how often pages of the program are given back, in seconds. What
// a page of the console, a control or a backup touched once would stay mapped
// for good: 42 MiB instead of 34 under load. Coming back costs about a
// millisecond of processor time in all.
const dropEvery = 10

// holdMemory keeps the soft limit of memory where the load needs it, unless
// GOMEMLIMIT was set, and the pages of the program to those in use.
func holdMemory(ctx context.Context) {
	limited := debug.SetMemoryLimit(-1) != math.MaxInt64
	if !limited {
		defer debug.SetMemoryLimit(math.MaxInt64)
	}
	program := ownPages()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := int64(0)
	for n := 1; ; n++ {
		metrics.Read(live)
		// SetMemoryLimit stops the world for a moment: only where it matters.
		if limit := memoryLimit(live[0].Value.Uint64()); !limited && (limit > last || limit < last-last/8) {
			debug.SetMemoryLimit(limit)
			last = limit
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if n%dropEvery == 0 {
				dropPages(program)
			}
		}
	}
}
