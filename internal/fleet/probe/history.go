package probe

import (
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// HistoryOptions are how much is remembered.
type HistoryOptions struct {
	Path     string // file that it is kept in; "" keeps it in memory only
	MaxBytes int64  // of the file; 32 MiB when zero
}

// History remembers, for each function, what was seen: the last results, the
// outages, and per minute, hour and day for how long it worked, for how long
// it did not, and how fast it answered. Time in which nobody looked is neither.
type History struct{}

// OpenHistory reads what is there and goes on with it. A file whose end was
// not written completely is taken up to there.
func OpenHistory(o HistoryOptions) (*History, error) { return &History{}, nil }

// Close writes everything out.
func (h *History) Close() error { return nil }

// Add remembers a result. Its validity is how long it says something, unless
// another one of the same probe comes: after that the time is unknown.
func (h *History) Add(r Result, valid time.Duration) {}

// Functions are the names of which something is remembered, sorted. A result
// without a function is remembered under the name of its probe.
func (h *History) Functions() []string { return nil }

// Recent are the last results of a function, oldest first, at most n.
func (h *History) Recent(function string, n int) []Result { return nil }

// Outage is a time in which a function did not work.
type Outage struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to,omitzero"` // zero while it lasts
	Code  Code      `json:"code"`
	Words string    `json:"words"` // of the first result of it
}

// Outages are the last outages of a function, oldest first.
func (h *History) Outages(function string) []Outage { return nil }

// Uptime is how a stretch of time was spent. Up, Down and Unknown are all of it.
type Uptime struct {
	From    time.Time     `json:"from"`
	To      time.Time     `json:"to"`
	Up      time.Duration `json:"up_ns"`
	Down    time.Duration `json:"down_ns"`
	Unknown time.Duration `json:"unknown_ns"`
	P50     time.Duration `json:"p50_ns"` // of the answers that were good; zero without any
	P95     time.Duration `json:"p95_ns"`
}

// Ratio is how much of the known time it worked; ok is false where no time is known.
func (u Uptime) Ratio() (ratio float64, ok bool) {
	known := u.Up + u.Down
	if known <= 0 {
		return 0, false
	}
	return float64(u.Up) / float64(known), true
}

// Uptime is how a function did from one moment to another, by minutes for the
// last hours, by hours for the last weeks, by days before. Both moments are
// moved outward to the edge of such a unit.
func (h *History) Uptime(function string, from, to time.Time) Uptime {
	return Uptime{From: from, To: to, Unknown: to.Sub(from)}
}

// Objective is how much a function may be away in a stretch of time.
type Objective struct {
	Window  time.Duration `json:"window_ns"`
	Allowed time.Duration `json:"allowed_ns"`
}

// Availability is the objective of being there for a part of the time, such as 0.995.
func Availability(part float64, window time.Duration) Objective {
	return Objective{Window: window, Allowed: time.Duration((1 - part) * float64(window))}
}

// ObjectiveOf is what a plan promises of a function: in 30 days, one outage of
// its RTO, or of its MTD where it has no RTO. ok is false where it has neither.
func ObjectiveOf(f plan.Function) (o Objective, ok bool) { return Objective{}, false }

// Budget is how much of an objective is used up.
type Budget struct {
	Objective
	Uptime  Uptime        `json:"uptime"`
	Left    time.Duration `json:"left_ns"`    // below zero when it is overspent
	Longest time.Duration `json:"longest_ns"` // the longest outage in the window
	Burn    float64       `json:"burn"`       // 1: as fast as just allowed, over the last hour
}

// Budget is how a function stands against an objective at a moment.
func (h *History) Budget(function string, o Objective, now time.Time) Budget { return Budget{} }
