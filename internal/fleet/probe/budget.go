package probe

import (
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Objective is how much a function may be away in a stretch of time.
type Objective struct {
	Window  time.Duration `json:"window_ns"`
	Allowed time.Duration `json:"allowed_ns"`
}

// Availability is the objective of being there for a part of the time, such as 0.995.
func Availability(part float64, window time.Duration) Objective {
	return Objective{Window: window, Allowed: time.Duration((1 - part) * float64(window))}
}

// budgetWindow is over how long a plan's promise is counted.
const budgetWindow = 30 * 24 * time.Hour

// ObjectiveOf is what a plan promises of a function: in 30 days, one outage of
// its RTO, or of its MTD where it has no RTO. ok is false where it has neither.
func ObjectiveOf(f plan.Function) (o Objective, ok bool) {
	for _, s := range []plan.Span{f.RTO, f.MTD} {
		if d := s.Longest(); d > 0 {
			return Objective{Window: budgetWindow, Allowed: min(d, budgetWindow)}, true
		}
	}
	return Objective{}, false
}

// Budget is how much of an objective is used up.
type Budget struct {
	Objective
	Uptime  Uptime        `json:"uptime"`
	Left    time.Duration `json:"left_ns"`    // below zero when it is overspent
	Longest time.Duration `json:"longest_ns"` // the longest of the remembered outages, as far as it lies in the window
	Burn    float64       `json:"burn"`       // over the last hour; at 1 the budget lasts exactly as long as its window
}

// Budget is how a function stands against an objective at a moment.
func (h *History) Budget(function string, o Objective, now time.Time) Budget {
	from := now.Add(-o.Window)
	b := Budget{Objective: o, Uptime: h.Uptime(function, from, now)}
	b.Left = o.Allowed - b.Uptime.Down
	for _, out := range h.Outages(function) {
		end := out.To
		if end.IsZero() {
			end = b.Uptime.To
		}
		begin := out.From
		if begin.Before(from) {
			begin = from
		}
		b.Longest = max(b.Longest, end.Sub(begin))
	}
	if hour := h.Uptime(function, now.Add(-time.Hour), now); o.Allowed > 0 && o.Window > 0 {
		b.Burn = float64(hour.Down) / float64(hour.To.Sub(hour.From)) / (float64(o.Allowed) / float64(o.Window))
	}
	return b
}
