//go:build linux

package main

import (
	"strings"
	"testing"
)

const traces = `File: foundry
Type: cpu
Duration: 5s, Total samples = 100ms ( 2.00%)
-----------+-------------------------------------------------------
      40ms   internal/runtime/syscall/linux.Syscall6
             syscall.write (inline)
             net.(*conn).Write
             github.com/missionopsai/foundry/internal/gateway.(*call).forward
             net/http.(*conn).serve
-----------+-------------------------------------------------------
      30ms   github.com/missionopsai/foundry/internal/gateway/wire.Scan
             github.com/missionopsai/foundry/internal/gateway.(*call).forward
             net/http.(*conn).serve
-----------+-------------------------------------------------------
      29ms   golang.org/x/sys/unix.Fdatasync
             github.com/missionopsai/foundry/internal/gateway/journal.(*Journal).run
-----------+-------------------------------------------------------
       1ms   runtime.nanotime
             runtime.schedule
-----------+-------------------------------------------------------
`

func TestAFlameGraphIsATextThatSaysEverythingOnce(t *testing.T) {
	f, err := readTraces(strings.NewReader(traces))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	f.print(&b)
	const want = `100.0 %  100ms of processor time, 40.0 % of it in system calls
 70.0 %    gateway.(*call).forward
 40.0 %      net.(*conn).Write
 30.0 %      gateway/wire.Scan
 29.0 %    gateway/journal.(*Journal).run
`
	if b.String() != want {
		t.Fatalf("got\n%s", b.String())
	}
}
