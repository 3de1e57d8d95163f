//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// pair is one thing measured two ways in the same round.
type pair struct{ hand, foundry time.Duration }

// report collects what was measured.
type report struct {
	bytes                  int64
	backup, restore, drill []pair // of drill: until it answered, and all of it
	prove                  []float64
	recovered, answered    time.Duration
	gap                    time.Duration
	written, lost          int64
	peak                   int64
}

// ratio is the median over the rounds, with the extremes.
func ratio(list []pair) (median, low, high float64) {
	var r []float64
	for _, p := range list {
		r = append(r, p.foundry.Seconds()/p.hand.Seconds())
	}
	slices.Sort(r)
	return r[len(r)/2], r[0], r[len(r)-1]
}

func middle[T cmp.Ordered](list []T) T {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

func hands(list []pair) (out []time.Duration) {
	for _, p := range list {
		out = append(out, p.hand)
	}
	return out
}

func foundries(list []pair) (out []time.Duration) {
	for _, p := range list {
		out = append(out, p.foundry)
	}
	return out
}

func (r *report) print(w io.Writer, dir string) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	fmt.Fprintf(w, "Measured %s on %d processors, Linux %s, %s: a database of %.2f GB, %d rounds.\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version(), float64(r.bytes)/1e9, len(r.backup))
	fmt.Fprintln(w, "| | target | by hand | Foundry | measured |")
	fmt.Fprintln(w, "|---|---|---|---|---|")
	row := func(name, target string, list []pair, limit, less float64) {
		m, low, high := ratio(list)
		fmt.Fprintf(w, "| %s | ≤ %s | %.1f s | %.1f s | %.2f (%.2f–%.2f) %s |\n", name, target, middle(hands(list)).Seconds(), middle(foundries(list)).Seconds(), m-less, low-less, high-less, reached(m-less <= limit))
	}
	row("full backup, against `pgbackrest backup`", "1.15", r.backup, 1.15, 0)
	row("restore, against `pgbackrest restore`", "1.15", r.restore, 1.15, 0)
	row("a drill adds to its restore (until it answers, against all of it)", "0.20", r.drill, 0.20, 1)
	restore := middle(hands(r.restore))
	bare := r.answered.Seconds() / restore.Seconds()
	fmt.Fprintf(w, "| bare machine: from kit to first answer, against `pgbackrest restore` | ≤ 1.5 | %.1f s | %.1f s (%.1f s until fenced) | %.2f %s |\n", restore.Seconds(), r.answered.Seconds(), r.recovered.Seconds(), bare, reached(bare <= 1.5))
	fmt.Fprintf(w, "| recovery point: rows acknowledged and lost at kill -9 | ≤ 60 s | – | %d of %d rows | %.1f s %s |\n", r.lost, r.written, r.gap.Seconds(), reached(r.gap <= time.Minute))
	fmt.Fprintf(w, "| resident memory of Foundry, at most | ≤ 100 MB | – | – | %.0f MB %s |\n", float64(r.peak)/1e6, reached(r.peak <= 100e6))
	fmt.Fprintf(w, "\nThe proofs of a drill took %.1f s.\n", middle(r.prove))
	_ = dir
}

func reached(yes bool) string {
	if yes {
		return "reached"
	}
	return "missed"
}
