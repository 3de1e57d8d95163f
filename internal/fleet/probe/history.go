package probe

import (
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Bounds of what is remembered of one function.
const (
	keptResults = 32
	keptOutages = 64
	maxValid    = 7 * 24 * time.Hour
	maxRecords  = 4096 // functions
	// late is how much older than the one before it a result may be: looks end
	// in another order than they begin. What is older means that the clock was
	// set back.
	late = time.Minute
)

// HistoryOptions are how much is remembered.
type HistoryOptions struct {
	Path     string       // file that it is kept in; "" keeps it in memory only
	MaxBytes int64        // of the file; 32 MiB when zero
	Log      *slog.Logger // may be nil
}

// History remembers, for each function, what was seen: the last results, the
// outages, and per minute, hour and day for how long it worked, for how long
// it did not, and how fast it answered. Time in which nobody looked is neither.
//
// A function works while all of its probes that say anything say so.
type History struct {
	mu      sync.Mutex
	records map[string]*record
	file    *historyFile // nil in memory
}

// OpenHistory reads what is there and goes on with it. A file is taken up to
// the first place that cannot be read, such as an end that was not written
// completely; what follows is set aside, under the name with .damaged.
func OpenHistory(o HistoryOptions) (*History, error) {
	h := &History{records: map[string]*record{}}
	if o.Path == "" {
		return h, nil
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 32 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	file, err := openHistoryFile(o, h)
	if err != nil {
		return nil, err
	}
	h.file = file
	return h, nil
}

// Close writes everything out.
func (h *History) Close() error {
	if h.file == nil {
		return nil
	}
	return h.file.close()
}

// Add remembers a result. valid is how long it says something, unless another
// one of the same probe comes: after that the time is unknown.
func (h *History) Add(r Result, valid time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, valid = trimmed(r), min(max(valid, 0), maxValid)
	if h.add(r, valid) && h.file != nil {
		h.file.result(r, valid)
	}
}

// trimmed is what is remembered of a result: as precise as the file is.
func trimmed(r Result) Result {
	r.At, r.Took = time.UnixMilli(r.At.UnixMilli()).UTC(), min(max(r.Took, 0), time.Hour).Truncate(time.Microsecond)
	r.Words, r.Facts = clean(r.Words, 200), nil
	r.Probe, r.Function, r.Node = clip(r.Probe), clip(r.Function), clip(r.Node)
	r.Signal, r.Code = Signal(clip(string(r.Signal))), Code(clip(string(r.Code)))
	r.Tries = min(max(r.Tries, 0), 255)
	return r
}

func clip(s string) string { return s[:min(len(s), 300)] }

func (h *History) add(r Result, valid time.Duration) bool {
	name := r.Function
	if name == "" {
		name = r.Probe
	}
	rec := h.records[name]
	if rec == nil {
		if len(h.records) >= maxRecords {
			return false
		}
		rec = newRecord()
		h.records[name] = rec
	}
	rec.add(r, valid)
	return true
}

// Functions are the names of which something is remembered, sorted. A result
// without a function is remembered under the name of its probe.
func (h *History) Functions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]string, 0, len(h.records))
	for name := range h.records {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Recent are the last results of a function, oldest first, at most n.
func (h *History) Recent(function string, n int) []Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec := h.records[function]
	if rec == nil {
		return nil
	}
	return slices.Clone(rec.recent[max(0, len(rec.recent)-max(n, 0)):])
}

// Outage is a time in which a function did not work.
type Outage struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to,omitzero"` // zero while it lasts
	Code  Code      `json:"code"`
	Words string    `json:"words"` // of the first result of it
}

// Outages are the last outages of a function, oldest first.
func (h *History) Outages(function string) []Outage {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec := h.records[function]
	if rec == nil {
		return nil
	}
	return slices.Clone(rec.outages)
}

// Uptime is how a stretch of time was spent. Up, Down and Unknown are all of it.
type Uptime struct {
	From    time.Time     `json:"from"`
	To      time.Time     `json:"to"`
	Up      time.Duration `json:"up_ns"`
	Down    time.Duration `json:"down_ns"`
	Unknown time.Duration `json:"unknown_ns"`
	P50     time.Duration `json:"p50_ns"` // of the good answers, within a third; zero without any
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

// Uptime is how a function did from one moment to another: by minutes for the
// last hours, by hours for the last weeks, by days before. Moments inside of
// such a unit are moved outward to its edge, but not beyond what is known.
func (h *History) Uptime(function string, from, to time.Time) Uptime {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec := h.records[function]
	if rec == nil || !to.After(from) {
		return Uptime{From: from, To: to, Unknown: max(to.Sub(from), 0)}
	}
	return rec.uptime(from.UnixMilli(), to.UnixMilli())
}

// State is whether a function works at a moment, by what was seen until then.
func (h *History) State(function string, now time.Time) (up, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec := h.records[function]
	if rec == nil {
		return false, false
	}
	s := rec.state(max(now.UnixMilli(), rec.at))
	return s == stateUp, s != stateNone
}
