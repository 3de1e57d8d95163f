//go:build linux

package main

import (
	"fmt"
	"strings"
)

// Places of the subjects that the targets are for: a third party, whose
// admission is durable before the call, and the fleet's own model, whose
// admission is synced beside it.
const (
	strict = 2
	beside = 3
)

// target is a number that was promised, in one setting.
type target struct {
	what  string
	at    string // scenario
	limit float64
	least bool // the limit is the least, not the most
	clock bool // the number is of little worth when others use the machine
	verb  string
	value func(t *table, subject int) float64
}

var targets = []target{
	{"whole answers: share of nginx's rate", "whole", 0.50, true, true, "%.2f", rateOf},
	{"the same by processor time of all processes, as on a machine for itself", "whole", 0.50, true, false, "%.2f", costOf},
	{"whole answers: gateway CPU-s per 1000", "whole", 0.08, false, false, "%.3f", gatewayOf},
	{"whole answers: PostgreSQL CPU-s per 1000", "whole", 0.025, false, false, "%.3f", databaseOf},
	{"added to nginx at 500/s, 20 ms upstream: p50, ms", "open-slow", 0.2, false, true, "%.2f", addedOf(wholeP50)},
	{"added to nginx at 500/s, 20 ms upstream: p99, ms", "open-slow", 0.8, false, true, "%.2f", addedOf(wholeP99)},
	{"time to first token over nginx, same: p50, ms", "open-slow-stream", 0.2, false, true, "%.2f", addedOf(firstP50)},
	{"time to first token over nginx, same: p99, ms", "open-slow-stream", 0.8, false, true, "%.2f", addedOf(firstP99)},
	{"streams: share of nginx's rate", "stream", 1, true, true, "%.2f", rateOf},
	{"the same by processor time of all processes", "stream", 1, true, false, "%.2f", costOf},
	{"streams: gateway CPU-s per 1000", "stream", 0.25, false, false, "%.3f", gatewayOf},
}

func rateOf(t *table, i int) float64 { return t.ratio(i).median }
func costOf(t *table, i int) float64 {
	return over(t.samples[0], (*sample).all).median / max(over(t.samples[i], (*sample).all).median, 1e-9)
}
func gatewayOf(t *table, i int) float64 { return over(t.samples[i], gatewayCPU).median }
func databaseOf(t *table, i int) float64 {
	return over(t.samples[i], func(s *sample) float64 { return s.Database }).median
}

func addedOf(of func(*sample) float64) func(*table, int) float64 {
	return func(t *table, i int) float64 { return t.added(i, of).median * 1e3 }
}

// finish compares what was seen with what was promised.
func (r *report) finish(peak int64) {
	var b strings.Builder
	b.WriteString("| | target | third party | third party, TLS | own model | own model, TLS |\n|---|---|---|---|---|---|\n")
	for _, g := range targets {
		sign := "≤"
		if g.least {
			sign = "≥"
		}
		fmt.Fprintf(&b, "| %s | %s %g | %s | %s | %s | %s |\n", g.what, sign, g.limit, g.reached(r.find(g.at, false), strict),
			g.reached(r.find(g.at, true), strict), g.reached(r.find(g.at, false), beside), g.reached(r.find(g.at, true), beside))
	}
	fmt.Fprintf(&b, "| peak RSS of the node under all of it, MiB | ≤ 64 | %s | | | |\n", mark(float64(peak)/(1<<20), 64, false, "%.1f"))
	if s := r.soak; s != nil && len(s.Tenths) > 1 {
		last := s.Tenths[len(s.Tenths)-1]
		fmt.Fprintf(&b, "| CPU per request, last tenth of %d over first | ≤ 1.1 | %s | | | |\n", s.Each*len(s.Tenths), mark(last.Gateway/max(s.Tenths[0].Gateway, 1e-9), 1.1, false, "%.2f"))
		fmt.Fprintf(&b, "| broken of %d counted streams | ≤ 0 | %s | | | |\n", s.Streams.Answers+s.Streams.Broken, mark(float64(s.Streams.Broken), 0, false, "%.0f"))
	}
	r.section("Targets", strings.TrimSuffix(b.String(), "\n"))
}

func (r *report) find(scenario string, secure bool) *table {
	for _, t := range r.tables {
		if t.name == scenario && t.secure == secure {
			return t
		}
	}
	return nil
}

// noisy is the share of the machine that others may use before rates and
// latencies say nothing about a target.
const noisy = 0.2

// noise is the largest share of the machine that others used in a round.
func (t *table) noise() float64 {
	var most float64
	for _, list := range t.samples {
		for i := range list {
			most = max(most, list[i].Foreign+list[i].Stolen)
		}
	}
	return most
}

func (g *target) reached(t *table, subject int) string {
	if t == nil {
		return "not measured"
	}
	if noise := t.noise(); g.clock && noise > noisy {
		return fmt.Sprintf(g.verb+", on a machine too busy to tell", g.value(t, subject))
	}
	return mark(g.value(t, subject), g.limit, g.least, g.verb)
}

// mark shows a value and whether it reaches its limit.
func mark(value, limit float64, least bool, verb string) string {
	word := "reached"
	if least && value < limit || !least && value > limit {
		word = "missed"
	}
	return fmt.Sprintf(verb+" %s", value, word)
}
