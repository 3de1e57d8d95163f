package sandbox

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
)

type picture = fleet.Picture

// view is what can be seen of the sandbox now.
type view struct {
	at        time.Time
	pictures  map[string]picture // of each node that answers
	incidents []*incident.State
	runs      []*recovery.Run
	points    string // node that the clients' name points to; "": none
	primary   string // node that runs the database at the newest epoch, by its own word
	epoch     int64
}

// change is a thing that was not so at the look before.
type change struct {
	at          time.Time
	what, about string
	words       string
}

// watch looks at everything all the time, as somebody outside would, and tells
// what has changed.
type watch struct {
	lab  *Lab
	tell func(change)
	stop context.CancelFunc
	done chan struct{}

	asked string // who told of incidents and recoveries last
	led   led    // by Patroni

	mu    sync.Mutex
	now   view
	first map[string]time.Time // when a change was seen first since the last forget
}

const lookEvery = 150 * time.Millisecond

func newWatch(ctx context.Context, l *Lab, tell func(change)) *watch {
	ctx, stop := context.WithCancel(ctx)
	w := &watch{lab: l, tell: tell, stop: stop, done: make(chan struct{}), first: map[string]time.Time{}}
	go w.run(ctx)
	return w
}

func (w *watch) close() { w.stop(); <-w.done }

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		v := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		before := w.now
		w.now = v
		w.mu.Unlock()
		w.compare(before, v)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look asks everything at once; what does not answer soon is not seen.
func (w *watch) look(ctx context.Context) view {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	v := view{pictures: map[string]picture{}}
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, n := range w.lab.nodes {
		if !n.up() {
			continue
		}
		all.Go(func() {
			var p picture
			if n.call(ctx, "GET", "/fleet/picture", nil, &p) == nil {
				mu.Lock()
				v.pictures[n.name] = p
				mu.Unlock()
			}
		})
		if w.lab.kept() && n.has("gateway") {
			all.Go(func() {
				s, err := n.cluster(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					return
				}
				if m, ok := s.Member(s.Leader); ok && m.Works() && m.Timeline >= v.epoch {
					v.primary, v.epoch = s.Leader, m.Timeline
				}
			})
		}
		if !n.has("database") {
			continue
		}
		all.Go(func() {
			d, err := n.database(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && d.State == "primary" && d.Epoch >= v.epoch {
				v.primary, v.epoch = n.name, d.Epoch
			}
		})
	}
	if w.lab.names != nil {
		all.Go(func() {
			at, err := w.lab.names.points()
			if err != nil {
				return
			}
			for _, n := range w.lab.nodes {
				if n.address() == at {
					mu.Lock()
					v.points = n.name
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if w.lab.kept() {
		v.primary = w.led.settle(v.primary, v.epoch)
	}
	w.records(ctx, &v)
	v.at = time.Now()
	return v
}

// records reads incidents and recoveries from a node with a majority.
func (w *watch) records(ctx context.Context, v *view) {
	// The same as before, while it answers: one that has just started knows less.
	for _, name := range append([]string{w.asked}, slices.Sorted(maps.Keys(v.pictures))...) {
		if !v.pictures[name].Majority {
			continue
		}
		n := w.lab.node(name)
		w.asked = name
		var list []incident.Summary
		_ = n.call(ctx, "GET", "/incidents", nil, &list)
		for _, i := range list {
			var t struct{ Entries []incident.Entry }
			if n.call(ctx, "GET", "/incidents/"+i.ID+"/timeline", nil, &t) == nil && len(t.Entries) > 0 {
				v.incidents = append(v.incidents, incident.Fold(t.Entries))
			}
		}
		_ = n.call(ctx, "GET", "/recoveries", nil, &v.runs)
		return
	}
}

func (w *watch) compare(a, b view) {
	for _, n := range w.lab.nodes {
		was, _ := a.state(n.name)
		is, words := b.state(n.name)
		if is != was && is != "" {
			w.saw(b.at, "node-"+string(is), n.name, words)
		}
	}
	for _, i := range b.incidents {
		j := slices.IndexFunc(a.incidents, func(o *incident.State) bool { return o.ID == i.ID })
		switch {
		case j < 0:
			w.saw(b.at, "incident-open", i.ID, i.Title)
		case a.incidents[j].Phase != i.Phase:
			w.saw(b.at, "incident-"+string(i.Phase), i.ID, "")
		}
		if told(i) && (j < 0 || !told(a.incidents[j])) {
			w.saw(b.at, "clients-told", i.ID, "")
		}
	}
	for _, r := range b.runs {
		j := slices.IndexFunc(a.runs, func(o *recovery.Run) bool { return o.ID == r.ID })
		if j < 0 {
			w.saw(b.at, "recovery-started", r.ID, r.Name)
		}
		for k, s := range r.Steps {
			if j < 0 || k >= len(a.runs[j].Steps) || a.runs[j].Steps[k].State != s.State {
				if s.State != recovery.Waiting {
					w.saw(b.at, "step-"+s.Kind+"-"+string(s.State), s.Name, s.Words)
				}
			}
		}
		if !r.Ended.IsZero() && (j < 0 || a.runs[j].Ended.IsZero()) {
			w.saw(b.at, "recovery-"+r.Outcome, r.ID, "")
		}
	}
	if b.points != a.points && b.points != "" {
		w.saw(b.at, "name-points", b.points, "")
	}
	if b.primary != a.primary && b.primary != "" {
		w.saw(b.at, "database-on", b.primary, "")
	}
}

// told says whether every notice to a client that is written was sent.
func told(i *incident.State) bool {
	all := 0
	for _, n := range i.Notices {
		if n.Audience != incident.ToClient {
			continue
		}
		if n.ToldAt.IsZero() {
			return false
		}
		all++
	}
	return all > 0
}

func (w *watch) saw(at time.Time, what, about, words string) {
	w.mu.Lock()
	key := what + " " + about
	if _, ok := w.first[key]; !ok {
		w.first[key] = at
	}
	if _, ok := w.first[what]; !ok {
		w.first[what] = at
	}
	w.mu.Unlock()
	w.tell(change{at, what, about, words})
}

// forget begins to count anew: what counts is seen after the event.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.first)
}

func (w *watch) when(key string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.first[key]
	return at, ok
}

func (w *watch) view() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// state is what the fleet holds of a node: the word of those that hear a
// majority. One of them that suspects is a suspicion.
func (v *view) state(name string) (verdict.State, string) {
	var out verdict.State
	var words string
	rank := map[verdict.State]int{verdict.Lost: 3, verdict.Suspected: 2}
	for from, p := range v.pictures {
		if from == name || !p.Majority {
			continue
		}
		for _, n := range p.Nodes {
			if n.Name == name && (out == "" || rank[n.Verdict.State] > rank[out]) {
				out, words = n.Verdict.State, n.Verdict.Words
			}
		}
	}
	return out, words
}
