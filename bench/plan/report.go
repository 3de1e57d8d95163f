//go:build linux

package main

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Targets for a plan of 500 functions and 100 nodes.
const (
	targetCheck  = 200 * time.Millisecond
	targetMemory = 100_000_000
	targetWhatif = 2 * time.Second
)

func print(w io.Writer, sizes []*size) error {
	var u unix.Utsname
	_ = unix.Uname(&u)
	fmt.Fprintf(w, "Measured %s on %d processors, Linux %s, %s: medians of %d rounds; of two times the first is the clock's, the second the processors'.\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version(), len(sizes[0].read))
	fmt.Fprintln(w, "| functions, nodes | file | read | check | read and check, per function | what falls with each of all | `foundry plan check`, start to end | its memory at most |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|")
	for _, s := range sizes {
		read, check, whatif, program := middle(s.read), middle(s.check), middle(s.whatif), middle(s.program)
		fmt.Fprintf(w, "| %d, %d | %d kB | %s | %s | %.2f ms | %d losses: %s | %s | %.0f MB |\n", s.functions, s.nodes, s.bytes/1000, both(read), both(check),
			milli(read.cpu+check.cpu)/float64(s.functions), s.losses, both(whatif), both(program), float64(s.peak)/1e6)
	}
	fmt.Fprintln(w)
	for _, s := range sizes {
		if s.functions != 500 {
			continue
		}
		read, check, whatif := middle(s.read), middle(s.check), middle(s.whatif)
		fmt.Fprintf(w, "| 500 functions, 100 nodes | target | measured |\n|---|---|---|\n")
		fmt.Fprintf(w, "| read and check | ≤ %s | %.0f ms (processors: %.0f ms) %s |\n", targetCheck, milli(read.wall+check.wall), milli(read.cpu+check.cpu), reached(read.wall+check.wall <= targetCheck))
		fmt.Fprintf(w, "| memory of the program | ≤ 100 MB | %.0f MB %s |\n", float64(s.peak)/1e6, reached(s.peak <= targetMemory))
		_, err := fmt.Fprintf(w, "| what falls with each of %d things | ≤ %s | %.0f ms %s |\n", s.losses, targetWhatif, milli(whatif.wall), reached(whatif.wall <= targetWhatif))
		return err
	}
	return nil
}

func milli(d time.Duration) float64 { return d.Seconds() * 1000 }

func both(c cost) string { return fmt.Sprintf("%.0f, %.0f ms", milli(c.wall), milli(c.cpu)) }

func reached(ok bool) string {
	if ok {
		return "reached"
	}
	return "missed"
}
