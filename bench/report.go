//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// table is what one setting showed: samples by subject, then by round.
type table struct {
	setting
	subjects []*subject
	samples  [][]sample
	others   []sample // of rounds that were left out: only what was wrong in them counts
	dropped  int
}

// report prints Markdown as the measurement goes on.
type report struct {
	size
	facts  []string
	began  time.Time
	tables []*table
	soak   *soaked
	broken []string
}

// spread is the median of a number over the rounds, with its extremes.
type spread struct{ median, low, high float64 }

func over[T any](list []T, of func(*T) float64) spread {
	values := make([]float64, 0, len(list))
	for i := range list {
		values = append(values, of(&list[i]))
	}
	return middle(values)
}

func middle(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	slices.Sort(values)
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// against compares two subjects round by round, which ran one after another,
// and then takes the median: what slows the whole machine down cancels out.
func against(a, b []sample, of func(a, b *sample) float64) spread {
	var values []float64
	for i := range min(len(a), len(b)) {
		values = append(values, of(&a[i], &b[i]))
	}
	return middle(values)
}

func (s spread) format(verb string) string {
	text := fmt.Sprintf(verb, s.median)
	if s.low != s.high {
		text += fmt.Sprintf(" ("+verb+"–"+verb+")", s.low, s.high)
	}
	return text
}

func (r *report) print() {
	fmt.Printf("# Measured %s\n\n", r.began.UTC().Format("2006-01-02 15:04 UTC"))
	for _, f := range r.facts {
		fmt.Println("-", f)
	}
	fmt.Printf("- %d interleaved rounds of %s after %s of warm-up; median (lowest–highest)\n", r.rounds, r.round, r.warm)
}

func (r *report) section(title, text string) { fmt.Printf("\n## %s\n\n%s\n", title, text) }

func (r *report) add(t *table) {
	r.tables = append(r.tables, t)
	title := t.title
	if t.secure {
		title += ", TLS 1.3"
	}
	r.section(title, t.markdown())
	for i, v := range t.subjects {
		for _, s := range t.samples[i] {
			r.count(t.key()+", "+v.title, &s)
		}
	}
	for _, s := range t.others {
		r.count(t.key()+", in a round left out", &s)
	}
}

// count remembers what was wrong, so that the run ends with it.
func (r *report) count(what string, s *sample) {
	if s.Broken > 0 {
		r.broken = append(r.broken, fmt.Sprintf("%s: %d of %d answers were broken, for example %s", what, s.Broken, s.Broken+s.Answers, s.Sample))
	}
	if s.Measured == 0 && s.Broken == 0 {
		r.broken = append(r.broken, what+": no answer came")
	}
}

func (t *table) markdown() string {
	var b strings.Builder
	if t.rate > 0 {
		t.open(&b)
	} else {
		t.closed(&b)
	}
	var foreign, stolen, backlog, drain float64
	for _, list := range t.samples {
		for i := range list {
			foreign, stolen = max(foreign, list[i].Foreign), max(stolen, list[i].Stolen)
			backlog, drain = max(backlog, float64(list[i].Queue)), max(drain, list[i].Drained.Seconds())
		}
	}
	fmt.Fprintf(&b, "\nOther processes used up to %.0f %% of the machine, the hypervisor took up to %.0f %%; %d noisier rounds were left out. "+
		"At the end of a round at most %.0f journal events were not yet in the database, and were after %.1f s; that time's work is counted.\n",
		foreign*100, stolen*100, t.dropped, backlog, drain)
	return strings.TrimSuffix(b.String(), "\n")
}

// closed shows how much went through.
func (t *table) closed(b *strings.Builder) {
	fmt.Fprintf(b, "| | per second | of nginx | p50 | p99 | CPU-s/1000 | PostgreSQL CPU-s/1000 | upstream, load | all | broken |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for i, v := range t.subjects {
		list := t.samples[i]
		answers, broken := counts(list)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %.3f, %.3f | %s | %d of %d |\n", v.title, over(list, (*sample).perSecond).format("%.0f"),
			t.ratio(i).format("%.2f"), milliseconds(over(list, wholeP50)), milliseconds(over(list, wholeP99)), over(list, gatewayCPU).format("%.3f"),
			t.database(i), over(list, func(s *sample) float64 { return s.Upstream }).median, over(list, func(s *sample) float64 { return s.Generator }).median,
			over(list, (*sample).all).format("%.3f"), broken, answers)
	}
}

// open shows how long it took, and what the gateway added to nginx's time.
func (t *table) open(b *strings.Builder) {
	p50, p99, what := wholeP50, wholeP99, "whole answer"
	if t.stream {
		p50, p99, what = firstP50, firstP99, "first token"
	}
	fmt.Fprintf(b, "| %s | p50 | p99 | p50 over nginx | p99 over nginx | max | CPU-s/1000 | PostgreSQL CPU-s/1000 | broken |\n|---|---|---|---|---|---|---|---|---|\n", what)
	for i, v := range t.subjects {
		list := t.samples[i]
		answers, broken := counts(list)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %d of %d |\n", v.title, milliseconds(over(list, p50)), milliseconds(over(list, p99)),
			milliseconds(t.added(i, p50)), milliseconds(t.added(i, p99)),
			milliseconds(over(list, func(s *sample) float64 { return s.Whole.Max.Seconds() })), over(list, gatewayCPU).format("%.3f"), t.database(i), broken, answers)
	}
}

func wholeP50(s *sample) float64   { return s.Whole.P50.Seconds() }
func wholeP99(s *sample) float64   { return s.Whole.P99.Seconds() }
func firstP50(s *sample) float64   { return s.First.P50.Seconds() }
func firstP99(s *sample) float64   { return s.First.P99.Seconds() }
func gatewayCPU(s *sample) float64 { return s.Gateway }

// ratio is a subject's rate as a share of nginx's.
func (t *table) ratio(i int) spread {
	return against(t.samples[i], t.samples[0], func(a, b *sample) float64 { return a.perSecond() / max(b.perSecond(), 1e-9) })
}

// added is what a subject adds to nginx's time.
func (t *table) added(i int, of func(*sample) float64) spread {
	return against(t.samples[i], t.samples[0], func(a, b *sample) float64 { return of(a) - of(b) })
}

func (t *table) database(i int) string {
	if !t.subjects[i].hides {
		return ""
	}
	return over(t.samples[i], func(s *sample) float64 { return s.Database }).format("%.3f")
}

func counts(list []sample) (answers, broken int) {
	for i := range list {
		answers += list[i].Answers + list[i].Broken
		broken += list[i].Broken
	}
	return answers, broken
}

func milliseconds(s spread) string {
	text := fmt.Sprintf("%.2f", s.median*1e3)
	if s.low != s.high {
		text += fmt.Sprintf(" (%.2f–%.2f)", s.low*1e3, s.high*1e3)
	}
	return text + " ms"
}

// soaked shows the long runs.
func (r *report) soaked(s *soaked) {
	r.soak = s
	r.count("long run", &s.Whole)
	r.count("counted streams", &s.Streams)
	var b strings.Builder
	fmt.Fprintf(&b, "%d whole answers at 64 connections: %.0f per second, %.3f CPU-s/1000, PostgreSQL %.3f, %d broken; the journal's queue was %d events at the end and empty after %.1f s.\n",
		s.Whole.Answers, s.Whole.perSecond(), s.Whole.Gateway, s.Whole.Database, s.Whole.Broken, s.Whole.Queue, s.Whole.Drained.Seconds())
	fmt.Fprintf(&b, "%d streams at 16 connections: %d broken.\n\n| tenth |", s.Streams.Answers+s.Streams.Broken, s.Streams.Broken)
	for i := range s.Tenths {
		fmt.Fprintf(&b, " %d |", i+1)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(s.Tenths)) + "\n| CPU-s/1000 |")
	for _, t := range s.Tenths {
		fmt.Fprintf(&b, " %.3f |", t.Gateway)
	}
	b.WriteString("\n| RSS, MiB |")
	for _, t := range s.Tenths {
		fmt.Fprintf(&b, " %.1f |", float64(t.RSS)/(1<<20))
	}
	r.section("Long run: the strict kind of provider, plain HTTP", b.String())
}

// verdict is an error if anything was broken.
func (r *report) verdict() error {
	if len(r.broken) == 0 {
		return nil
	}
	slices.SortFunc(r.broken, cmp.Compare[string])
	return errors.New(strings.Join(r.broken, "\n"))
}
