package plan

import (
	"math"
	"slices"
	"time"
)

// Margin is how far a function is from breaking what it promises, if it
// failed now.
type Margin struct {
	Function string    `json:"function"`
	Loss     *Estimate `json:"loss,omitempty"`          // of data, at worst; nil when it has none, or nothing can be said
	LossSays string    `json:"loss_says,omitempty"`     // why there is no estimate
	Recovery *Estimate `json:"recovery,omitempty"`      // nil when no recovery plan brings it back
	Plan     string    `json:"recovery_plan,omitempty"` // the fastest one

	RPO Clock `json:"rpo,omitzero"`
	RTO Clock `json:"rto,omitzero"`
	MTD Clock `json:"mtd,omitzero"`
}

// Clock is an objective, what is expected, and what is left between them.
type Clock struct {
	Bound    time.Duration `json:"bound"`
	Expected time.Duration `json:"expected"`
	Left     time.Duration `json:"left"`  // negative when the objective will be missed
	Share    float64       `json:"share"` // expected ÷ bound; above 1 it will be missed
}

// IsZero reports that there is no objective or no expectation.
func (c Clock) IsZero() bool { return c.Bound == 0 }

// Worst is the largest share of an objective that is used up, 0 when nothing
// can be said.
func (m *Margin) Worst() float64 { return max(m.RPO.Share, m.RTO.Share, m.MTD.Share) }

// Margins says for each function, in the order of their names, what would be
// lost and how long it would take if it failed at now. A backup whose newest
// proven point is known counts from that point.
func (p *Plan) Margins(m Measured, now time.Time) []Margin {
	out := make([]Margin, 0, len(p.Functions))
	for i := range p.Functions {
		f := &p.Functions[i]
		g := Margin{Function: f.Name}
		g.Loss, g.LossSays = p.lossNow(f, m, now)
		for j := range p.Recovery {
			r := &p.Recovery[j]
			if !slices.Contains(r.Functions, f.Name) {
				continue
			}
			if e := p.RecoveryTime(r, f, m); g.Recovery == nil || e.Total < g.Recovery.Total {
				g.Recovery, g.Plan = &e, r.Name
				g.RTO = clock(f.RTO, e.Total-p.BeforeClock(r, e))
				g.MTD = clock(f.MTD, e.Total)
			}
		}
		if g.Loss != nil {
			g.RPO = clock(f.RPO, g.Loss.Total)
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b Margin) int { return compareThings(Thing{"", a.Function}, Thing{"", b.Function}) })
	return out
}

func clock(bound Span, expected time.Duration) Clock {
	if !bound.Known() || bound.Longest() == 0 {
		return Clock{}
	}
	b := bound.Longest()
	return Clock{Bound: b, Expected: expected, Left: b - expected, Share: math.Round(float64(expected)/float64(b)*1000) / 1000}
}

// lossNow is the least that would be lost with the function's backups.
func (p *Plan) lossNow(f *Function, m Measured, now time.Time) (*Estimate, string) {
	if len(f.Data) == 0 {
		return nil, "it has no data of its own"
	}
	var best *Estimate
	for _, b := range p.BackupsOf(f) {
		e := b.WorstLoss(m)
		if at, ok := m.NewestPoint[b.Name]; ok && !now.IsZero() {
			e = Estimate{}
			e.add(Part{Name: "age of the newest proven point", Takes: max(0, now.Sub(at)), From: "measured", Says: "of the backup " + b.Name})
		}
		if best == nil || e.Total < best.Total {
			best = &e
		}
	}
	if best == nil {
		return nil, "all of it: it has no backup"
	}
	return best, ""
}
