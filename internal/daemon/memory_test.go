package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"testing"
)

func TestOnlyUntouchedPagesOfTheProgramAreGivenBack(t *testing.T) {
	const smaps = `00400000-014fb000 r-xp 00000000 08:01 1 /opt/foundry
Rss:               15592 kB
Anonymous:             0 kB
01480000-025c7000 r--p 01080000 08:01 1 /opt/foundry
Anonymous:             0 kB
025c7000-026c8000 r--p 021c7000 08:01 1 /opt/foundry
Anonymous:             4 kB
026c8000-027c8000 rw-p 022c7000 08:01 1 /opt/foundry
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 08:01 2 /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000300000-7f0000400000 r--p 00000000 00:00 0
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x14fb000}, {0x1480000, 0x25c7000}}
	if got := programPages([]byte(smaps), "/opt/foundry"); !slices.Equal(got, want) {
		t.Errorf("%x", got)
	}
}

func TestTheProgramGoesOnWithoutItsPages(t *testing.T) {
	own, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("no /proc: nothing is given back here")
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if len(programPages(own, program)) == 0 {
		t.Error("nothing of this program would be given back")
	}
	(&Daemon{}).settle()
	if now, err := os.ReadFile("/proc/self/smaps"); err != nil || len(now) == 0 {
		t.Fatal(err)
	}
}

func TestTheMemoryLimitLeavesABusyNodeRoom(t *testing.T) {
	for live, want := range map[uint64]int64{0: leastMemory, 16 << 20: leastMemory, 80 << 20: 160 << 20} {
		if got := memoryLimit(live); got != want {
			t.Errorf("with %d bytes alive: %d, want %d", live, got, want)
		}
	}
}

func TestALimitThatWasSetIsKept(t *testing.T) {
	before := debug.SetMemoryLimit(1 << 40)
	defer debug.SetMemoryLimit(before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	holdMemory(ctx)
	if now := debug.SetMemoryLimit(-1); now != 1<<40 {
		t.Errorf("it is %d now", now)
	}
}
