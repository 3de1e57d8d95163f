package plan

import (
	"fmt"
	"slices"
	"time"
)

// Part is one term of an estimate.
type Part struct {
	Name  string        `json:"name"`
	Kind  string        `json:"kind,omitempty"` // of the step, for a recovery
	At    string        `json:"at,omitempty"`   // path of the value it comes from
	Takes time.Duration `json:"takes"`
	From  string        `json:"from"` // plan, measured, derived or assumed
	Says  string        `json:"says"` // how the number comes about
}

// Estimate is a length of time that is added up from parts.
type Estimate struct {
	Total       time.Duration `json:"total"`
	Parts       []Part        `json:"parts"`
	Unknown     []string      `json:"unknown,omitempty"`     // what nothing says; an assumption stands in for it
	Assumptions []string      `json:"assumptions,omitempty"` // each with its number
}

// Derived reports whether every term comes from the plan or from a measurement.
func (e *Estimate) Derived() bool { return len(e.Unknown) == 0 }

func (e *Estimate) add(p Part) {
	e.Parts = append(e.Parts, p)
	e.Total += p.Takes
	e.note(p)
}

func (e *Estimate) note(p Part) {
	if p.From == "assumed" {
		e.Unknown = append(e.Unknown, p.Name)
		e.Assumptions = append(e.Assumptions, fmt.Sprintf("%s: %s", p.Name, FormatDuration(p.Takes)))
	}
}

// WorstLoss is how much of the latest data can be lost when this backup is
// all there is: what its log is behind; or an interval, the run, its way
// there, and one more interval for the run that failed unseen.
func (b *Backup) WorstLoss(m Measured) Estimate {
	var e Estimate
	if lag, ok := m.LogLag[b.Name]; ok && !b.Continuous.IsZero() {
		e.add(Part{Name: "log behind", Takes: lag, From: "measured", Says: "how far the log is behind now"})
		return e
	}
	if b.Continuous.Known() {
		e.add(Part{Name: "log behind", Takes: b.Continuous.Longest(), From: "plan", Says: "how far the log may be behind"})
		return e
	}
	every := Part{Name: "interval", Takes: b.Every.Longest(), From: "plan", Says: "between two runs"}
	if !b.Every.Known() {
		every.Takes, every.From = defaultInterval, "assumed"
	}
	e.add(every)
	took := Part{Name: "run", Takes: b.Takes.Longest(), From: "plan", Says: "one run"}
	if measured, ok := m.BackupTook[b.Name]; ok {
		took.Takes, took.From = measured, "measured"
	} else if !b.Takes.Known() {
		took.Takes, took.From = defaultRun, "assumed"
	}
	e.add(took)
	way := Part{Name: "transfer", Takes: b.Transfer.Longest(), From: "plan", Says: "until it has arrived elsewhere"}
	if !b.Transfer.Known() {
		way.Takes, way.From = defaultTransfer, "assumed"
	}
	e.add(way)
	failed := every
	failed.Name, failed.Says = "failed run", "one run that failed unseen"
	if failed.From == "assumed" {
		failed.From = "derived"
	}
	e.add(failed)
	return e
}

// What stands in for a number that nobody gives. Each use is named.
const (
	defaultInterval = day
	defaultRun      = time.Hour
	defaultTransfer = 30 * time.Minute
	defaultTTL      = time.Hour
	defaultRate     = 30e6 // bytes a second: a line of 250 Mbit/s
)

var defaultStep = map[string]time.Duration{
	"detect": 5 * time.Minute, "confirm": 15 * time.Minute, "declare": 5 * time.Minute, "fence": 2 * time.Minute, "isolate": 10 * time.Minute,
	"capture": time.Hour, "investigate": day, "notify": 10 * time.Minute, "decide": 15 * time.Minute, "approve": 15 * time.Minute,
	"provision": 4 * time.Hour, "promote": time.Minute, "restore": time.Hour, "replay": 10 * time.Minute, "rebuild": 30 * time.Minute,
	"certificate": 10 * time.Minute, "start": 5 * time.Minute, "validate": 15 * time.Minute, "dns": defaultTTL, "watch": 0,
	"reconcile": time.Hour, "failback": time.Hour, "wipe": 30 * time.Minute, "review": time.Hour, "hand-over": 30 * time.Minute, "switch": 5 * time.Minute,
}

// bringsBack are the kinds of step without which a function is not back.
var bringsBack = []string{"provision", "promote", "restore", "replay", "rebuild", "certificate", "start", "validate", "dns", "switch"}

// RecoveryTime estimates how long a recovery plan takes to bring a function
// back, from the start of the outage: the longest way through its steps, each
// with the measured time, the plan's, one derived from size and rate, or an
// assumption that is named. Detection and confirmation that are no steps come
// from the scenarios that use the plan, the slowest of them.
func (p *Plan) RecoveryTime(r *RecoveryPlan, f *Function, m Measured) Estimate {
	c := &chain{p: p, r: r, f: f, m: m, index: map[string]int{}, memo: map[int]arrival{}}
	for i := range r.Steps {
		c.index[r.Steps[i].Name] = i
	}
	var e Estimate
	for _, before := range c.before() {
		e.add(before)
	}
	last, end := -1, time.Duration(-1)
	for i := range r.Steps {
		if s := &r.Steps[i]; slices.Contains(bringsBack, s.Kind) && about(s.Functions, f.Name) {
			if at := c.arrive(i, nil); at.end > end {
				last, end = i, at.end
			}
		}
	}
	var way []int
	for i := last; i >= 0; i = c.memo[i].from {
		way = append(way, i)
	}
	slices.Reverse(way)
	for _, i := range way {
		e.add(c.part(i))
	}
	for _, missing := range c.missing() {
		e.add(missing)
	}
	return e
}

// chain finds the longest way through the steps of a plan.
type chain struct {
	p     *Plan
	r     *RecoveryPlan
	f     *Function
	m     Measured
	index map[string]int
	memo  map[int]arrival
}

type arrival struct {
	end  time.Duration
	from int // the step before on the longest way, or -1
}

// arrive is when step i has ended. A circle of steps is cut where it closes:
// the linter reports it.
func (c *chain) arrive(i int, above []int) arrival {
	if known, ok := c.memo[i]; ok {
		return known
	}
	out := arrival{from: -1}
	for _, before := range c.after(i) {
		if before == i || slices.Contains(above, before) {
			continue
		}
		if at := c.arrive(before, append(above, i)); at.end > out.end || out.from < 0 {
			out = arrival{end: at.end, from: before}
		}
	}
	out.end += c.part(i).Takes
	c.memo[i] = out
	return out
}

func (c *chain) after(i int) (out []int) {
	s := &c.r.Steps[i]
	if len(s.After) == 0 && i > 0 {
		return []int{i - 1}
	}
	for _, name := range s.After {
		if j, ok := c.index[name]; ok {
			out = append(out, j)
		}
	}
	return out
}

// part is how long step i takes, and how that is known.
func (c *chain) part(i int) Part {
	s := &c.r.Steps[i]
	out := Part{Name: s.Name, Kind: s.Kind, At: c.path(i), From: "plan", Says: "as the plan says"}
	if took, ok := c.m.Steps[c.r.Name+"/"+s.Name]; ok {
		out.Takes, out.From, out.Says = took, "measured", "when it was last exercised"
		return out
	}
	if s.Takes.Known() {
		out.Takes = s.Takes.Longest()
		return out
	}
	switch s.Kind {
	case "restore":
		return c.restore(s, out)
	case "replay":
		if c.m.Replay > 0 {
			out.Takes, out.From, out.Says = c.m.Replay, "measured", "in the last drill"
			return out
		}
	case "provision":
		if from := c.p.Supplier(s.Supplier); from != nil && from.Provisions.Known() {
			out.Takes, out.Says = from.Provisions.Longest(), from.Name+" has undertaken it"
			return out
		}
	case "dns":
		if ttl := c.f.DNSTTL; ttl.Known() {
			out.Takes, out.Says = ttl.Longest(), "until clients have forgotten the old address"
			return out
		}
	}
	out.Takes, out.From, out.Says = defaultStep[s.Kind], "assumed", "nothing says how long"
	return out
}

// restore derives how long a restore takes from what it brings back and how fast.
func (c *chain) restore(s *Step, out Part) Part {
	names := s.Functions
	if len(names) == 0 {
		names = c.r.Functions
	}
	if len(names) == 0 {
		names = []string{c.f.Name}
	}
	var bytes int64
	for _, name := range names {
		if n, ok := c.m.Sizes[name]; ok {
			bytes += n
		} else if f := c.p.Function(name); f != nil {
			bytes += f.Size.Bytes()
		}
	}
	if bytes == 0 {
		out.Takes, out.From, out.Says = defaultStep["restore"], "assumed", "neither its size nor a time is given"
		return out
	}
	rate, from := c.m.RestoreRate, "measured"
	if rate <= 0 {
		rate, from = defaultRate, "assumed"
	}
	out.Takes = time.Duration(float64(bytes) / rate * float64(time.Second)).Round(time.Second)
	out.From = "derived"
	out.Says = fmt.Sprintf("%.1f GB at %.0f MB/s", float64(bytes)/1e9, rate/1e6)
	if from == "assumed" {
		out.From, out.Says = "assumed", out.Says+", a rate that was never measured"
	}
	return out
}

// before lists detection and confirmation where they are no steps.
func (c *chain) before() (out []Part) {
	has := func(kind string) bool {
		return slices.ContainsFunc(c.r.Steps, func(s Step) bool { return s.Kind == kind })
	}
	for _, k := range []struct {
		kind string
		of   func(*Scenario) Span
		name string
	}{
		{"detect", func(s *Scenario) Span { return s.DetectWithin }, "detect_within"},
		{"confirm", func(s *Scenario) Span { return s.ConfirmWithin }, "confirm_within"},
	} {
		if has(k.kind) {
			continue
		}
		part := Part{Name: k.kind, Kind: k.kind, Takes: defaultStep[k.kind], From: "assumed", Says: "nothing says how long"}
		for i := range c.p.Scenarios {
			s := &c.p.Scenarios[i]
			if span := k.of(s); slices.Contains(s.Recovery, c.r.Name) && span.Known() && (part.From == "assumed" || span.Longest() > part.Takes) {
				part.Takes, part.From, part.Says, part.At = span.Longest(), "plan", fmt.Sprintf("scenario %s allows it", s.Name), fmt.Sprintf("scenarios[%d].%s", i, k.name)
			}
		}
		out = append(out, part)
	}
	return out
}

// missing lists what every recovery needs and the plan has no step for.
func (c *chain) missing() (out []Part) {
	has := func(kinds ...string) bool {
		return slices.ContainsFunc(c.r.Steps, func(s Step) bool { return slices.Contains(kinds, s.Kind) && about(s.Functions, c.f.Name) })
	}
	for _, k := range []struct {
		kind string
		by   []string
		when bool
	}{
		{"restore", []string{"restore", "promote", "rebuild", "switch"}, c.p.keeps(c.f)},
		{"provision", []string{"provision", "promote", "switch"}, len(c.r.Onto) == 0 && len(c.f.Host) > 0},
		{"validate", []string{"validate"}, true},
		{"dns", []string{"dns"}, len(c.f.Hostnames) > 0},
	} {
		if k.when && !has(k.by...) {
			out = append(out, Part{Name: k.kind, Kind: k.kind, Takes: defaultStep[k.kind], From: "assumed", Says: "the plan has no such step"})
		}
	}
	return out
}

func (c *chain) path(i int) string {
	for j := range c.p.Recovery {
		if c.p.Recovery[j].Name == c.r.Name {
			return fmt.Sprintf("recovery[%d].steps[%d]", j, i)
		}
	}
	return ""
}

// about reports whether a step that names these functions is about one of
// them; a step that names none is about all.
func about(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }

// BeforeClock is the part of an estimate that passes before the recovery time
// starts to run: an RTO may count from detection or confirmation. Downtime,
// and with it the MTD, always counts from the start.
func (p *Plan) BeforeClock(r *RecoveryPlan, e Estimate) time.Duration {
	from, named := "", false
	for i := range p.Scenarios {
		if s := &p.Scenarios[i]; slices.Contains(s.Recovery, r.Name) {
			if named && from != s.RTOFrom {
				return 0 // they differ: the strictest, from the start
			}
			from, named = s.RTOFrom, true
		}
	}
	var out time.Duration
	for _, part := range e.Parts {
		if part.Kind == "detect" && (from == "detection" || from == "confirmation") || part.Kind == "confirm" && from == "confirmation" {
			out += part.Takes
		}
	}
	return out
}

// StepTimes says how long each step of a recovery plan takes, and how that is
// known: for what a step is about, or else for the first function that the plan
// brings back.
func (p *Plan) StepTimes(r *RecoveryPlan, m Measured) (out []Part) {
	for i := range r.Steps {
		f := &Function{}
		for _, name := range append(append([]string{}, r.Steps[i].Functions...), r.Functions...) {
			if known := p.Function(name); known != nil {
				f = known
				break
			}
		}
		c := &chain{p: p, r: r, f: f, m: m, index: map[string]int{}, memo: map[int]arrival{}}
		out = append(out, c.part(i))
	}
	return out
}
