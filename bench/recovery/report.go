//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// pair is one thing measured two ways in the same round.
type pair struct{ hand, foundry cost }

// loss is what was lost with a machine.
type loss struct {
	gap           time.Duration
	written, lost int64
}

// report collects what was measured, by round.
type report struct {
	bytes           int64
	backup, restore []pair
	drill           []pair // by hand: restored, and started until it answers
	own             []pair // in the place of that, the same of the drill itself
	bare, usable    []pair // from the kit to an answer; by hand: restored, and until it answers
	prove           []float64
	fenced          []time.Duration
	steps           [][]step
	losses          []loss
	peaks           map[string]int64
}

// ratio is the median over the rounds, with the extremes.
func ratio(list []pair, of func(cost) time.Duration) (median, low, high float64) {
	var r []float64
	for _, p := range list {
		r = append(r, of(p.foundry).Seconds()/of(p.hand).Seconds())
	}
	slices.Sort(r)
	return r[len(r)/2], r[0], r[len(r)-1]
}

func wall(c cost) time.Duration      { return c.wall }
func processor(c cost) time.Duration { return c.cpu }

func middle[T cmp.Ordered](list []T) T {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

// times are those of one side, in order of the rounds.
func times(list []pair, side func(pair) cost, of func(cost) time.Duration) (out []time.Duration) {
	for _, p := range list {
		out = append(out, of(side(p)))
	}
	return out
}

func byHand(p pair) cost    { return p.hand }
func byFoundry(p pair) cost { return p.foundry }

func (r *report) print(w io.Writer) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	fmt.Fprintf(w, "Measured %s on %d processors, Linux %s, %s: a database of %.2f GB, %d rounds.\n\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version(), float64(r.bytes)/1e9, len(r.backup))
	fmt.Fprintln(w, "| | target | by hand | Foundry | measured | processor time, by hand and Foundry |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	row := func(name string, list []pair, limit, less float64) {
		m, low, high := ratio(list, wall)
		target, verdict := "", ""
		if limit > 0 {
			target, verdict = fmt.Sprintf("≤ %.4g", limit), " "+reached(m-less <= limit)
		}
		cpu := ""
		if mc, _, _ := ratio(list, processor); mc > 0 && !math.IsInf(mc, 0) {
			cpu = fmt.Sprintf("%.1f s, %.1f s", middle(times(list, byHand, processor)).Seconds(), middle(times(list, byFoundry, processor)).Seconds())
		}
		fmt.Fprintf(w, "| %s | %s | %.1f s | %.1f s | %.2f (%.2f–%.2f)%s | %s |\n", name, target, middle(times(list, byHand, wall)).Seconds(), middle(times(list, byFoundry, wall)).Seconds(),
			m-less, low-less, high-less, verdict, cpu)
	}
	row("full backup, against `pgbackrest backup`", r.backup, 1.15, 0)
	row("restore, against `pgbackrest restore`", r.restore, 1.15, 0)
	row("a drill adds to a restore by hand that was started and answers", r.drill, 0.20, 1)
	row("the same, against the restore in the drill itself", r.own, 0, 1)
	row("bare machine: from the kit to the first answered request, against `pgbackrest restore`", r.bare, 1.5, 0)
	row("the same, against a restore by hand that was started and answers", r.usable, 0, 0)
	worst := slices.MaxFunc(r.losses, func(a, b loss) int { return cmp.Compare(a.gap, b.gap) })
	fmt.Fprintf(w, "| recovery point: rows acknowledged and lost at kill -9, the worst round | ≤ 60 s | – | %d of %d rows | %.1f s %s | |\n", worst.lost, worst.written, worst.gap.Seconds(), reached(worst.gap <= time.Minute))
	most := ""
	for _, name := range slices.Sorted(maps.Keys(r.peaks)) {
		if most == "" || r.peaks[name] > r.peaks[most] {
			most = name
		}
	}
	fmt.Fprintf(w, "| resident memory of Foundry, at most (`foundry %s`) | ≤ 100 MB | – | – | %.0f MB %s | |\n", most, float64(r.peaks[most])/1e6, reached(r.peaks[most] <= 100e6))
	r.details(w)
}

// details say where the time and the memory went.
func (r *report) details(w io.Writer) {
	fmt.Fprintf(w, "\nThe proofs of a drill took %.1f s after the copy answered. A recovery was fenced after %.1f s; its steps, in the last round:", middle(r.prove), middle(r.fenced).Seconds())
	for _, s := range r.steps[len(r.steps)-1] {
		fmt.Fprintf(w, " %s %.1f s,", s.Name, s.Ended.Sub(s.Began).Seconds())
	}
	fmt.Fprint(w, " then activation, start and the request.\nResident memory, at most, in MB:")
	for _, name := range slices.Sorted(maps.Keys(r.peaks)) {
		fmt.Fprintf(w, " %s %.0f;", name, float64(r.peaks[name])/1e6)
	}
	fmt.Fprintln(w)
}

func reached(yes bool) string {
	if yes {
		return "reached"
	}
	return "missed"
}
