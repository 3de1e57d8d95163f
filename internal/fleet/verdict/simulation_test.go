package verdict_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	. "github.com/missionopsai/foundry/internal/fleet/verdict"
)

var schedules = flag.Int("schedules", 25, "how many random schedules the simulated network runs")

// network is a fleet in virtual time: nodes that die and come back, paths that
// break in one direction or both, clocks that jump, answers that are slow, and
// a store that works where a majority hears one another. One tick is a second.
type network struct {
	t      *testing.T
	seed   uint64
	r      *rand.Rand
	n      int
	tick   int
	log    []string
	dead   []bool
	slow   []bool
	cut    [][]bool // from, to
	wall   []time.Duration
	sees   []map[string]Observation // of each node, by its judge's clock in Heard and its wall clock in Since
	leader int                      // of the store; -1: there is no majority
	since  int                      // the leader's

	beat  []int // tick of the last heartbeat that reached the store
	lease []int // tick at which the lease ended; -1
	store []map[string]Observation
	heard [][]int                    // by reader and member: tick at which it heard the last heartbeat
	read  [][]map[string]Observation // by reader and member
	told  []map[string]Verdict       // by node: its own view
	ruled map[string]Verdict         // what the leader wrote
	calm  [][]int                    // for how many ticks node i could be reached by a majority of who is connected
	gone  []int                      // for how many ticks a node is dead while the others are all well
	alone []int                      // for how many ticks a node does not reach the store
	quiet int                        // for how many ticks all is well
	lost  int                        // confirmed rightly
}

const (
	leaseTicks = 8
	confirm    = 30
)

var epoch0 = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func (w *network) now() time.Time { return epoch0.Add(time.Duration(w.tick) * time.Second) }

func newNetwork(t *testing.T, seed uint64) *network {
	w := &network{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 6)), leader: -1, ruled: map[string]Verdict{}}
	w.n = []int{1, 2, 3, 3, 4, 5, 5}[w.r.IntN(7)]
	for range w.n {
		w.dead, w.slow, w.wall = append(w.dead, false), append(w.slow, false), append(w.wall, 0)
		w.cut = append(w.cut, make([]bool, w.n))
		w.sees, w.store = append(w.sees, map[string]Observation{}), append(w.store, map[string]Observation{})
		w.beat, w.lease = append(w.beat, 0), append(w.lease, -1)
		w.heard, w.read = append(w.heard, make([]int, w.n)), append(w.read, make([]map[string]Observation, w.n))
		w.told, w.gone, w.alone = append(w.told, map[string]Verdict{}), append(w.gone, 0), append(w.alone, 0)
		w.calm = append(w.calm, []int{0})
	}
	return w
}

func name(i int) string { return string(rune('a' + i)) }

// talk reports whether two nodes can exchange anything now.
func (w *network) talk(i, j int) bool {
	return !w.dead[i] && !w.dead[j] && (i == j || !w.cut[i][j] && !w.cut[j][i])
}

func (w *network) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%4d  ", w.tick)+fmt.Sprintf(format, args...))
}

// happen lets something happen, now and then; near the end all is mended.
func (w *network) happen(mended bool) {
	if mended {
		for i := range w.n {
			w.dead[i], w.slow[i] = false, false
			clear(w.cut[i])
		}
		return
	}
	if w.r.IntN(25) > 0 {
		return
	}
	i, j := w.r.IntN(w.n), w.r.IntN(w.n)
	switch w.r.IntN(9) {
	case 0, 1:
		w.dead[i] = true
		w.note("%s dies", name(i))
	case 2:
		w.dead[i] = false
		w.note("%s comes back", name(i))
	case 3:
		w.cut[i][j] = i != j
		w.note("%s no longer reaches %s", name(i), name(j))
	case 4:
		for k := range w.n {
			w.cut[i][k], w.cut[k][i] = k != i, k != i
		}
		w.note("%s is cut off", name(i))
	case 5:
		for a := range w.n {
			for b := range w.n {
				w.cut[a][b] = a != b && (a <= i) != (b <= i)
			}
		}
		w.note("the network splits behind %s", name(i))
	case 6:
		for a := range w.n {
			clear(w.cut[a])
		}
		w.note("the network is whole")
	case 7:
		w.slow[i] = !w.slow[i]
		w.note("%s is slow: %v", name(i), w.slow[i])
	case 8:
		w.wall[i] = []time.Duration{0, time.Hour, -time.Hour, 10 * time.Second}[w.r.IntN(4)]
		w.note("the clock of %s is off by %s", name(i), w.wall[i])
	}
}

// look has every node look at every other.
func (w *network) look() {
	for i := range w.n {
		for j := range w.n {
			if i == j || w.dead[i] {
				continue
			}
			for _, signal := range []string{"https", "ssh"} {
				key := name(j) + signal
				ok := w.talk(i, j)
				code := ""
				if !ok {
					code = "timeout"
				}
				took := 20 * time.Millisecond
				if w.slow[j] {
					took = 3 * time.Second
				}
				old, had := w.sees[i][key]
				if !had || old.OK != ok {
					old = Observation{Observer: name(i), Subject: Node(name(j)), Signal: signal, Ends: signal, OK: ok, Code: code, Since: w.now().Add(w.wall[i]), Heard: w.now(), Watched: true}
				}
				old.At, old.Took = w.now().Add(w.wall[i]), took
				w.sees[i][key] = old
			}
		}
	}
}

// elect keeps the leader of the store while a majority hears it.
func (w *network) elect() {
	has := func(i int) bool {
		n := 0
		for j := range w.n {
			if w.talk(i, j) {
				n++
			}
		}
		return n*2 > w.n
	}
	if w.leader >= 0 && has(w.leader) {
		return
	}
	if w.leader >= 0 {
		w.leader = -1
		return // one tick without
	}
	for _, i := range w.r.Perm(w.n) {
		if has(i) {
			w.leader, w.since = i, w.tick
			for j := range w.n { // a new leader gives leases their whole time again
				if w.lease[j] < 0 {
					w.beat[j] = max(w.beat[j], w.tick-1)
				}
			}
			return
		}
	}
}

// publish brings heartbeats into the store, and from it to who is connected.
func (w *network) publish() {
	if w.leader < 0 {
		return
	}
	for i := range w.n {
		if w.talk(i, w.leader) {
			w.beat[i], w.lease[i] = w.tick, -1
			for key, o := range w.sees[i] {
				w.store[i][key] = o
			}
		} else if w.lease[i] < 0 && w.tick-w.beat[i] >= leaseTicks {
			w.lease[i] = w.tick
			w.store[i] = map[string]Observation{}
		}
	}
	for reader := range w.n {
		if !w.talk(reader, w.leader) {
			continue
		}
		for i := range w.n {
			if w.beat[i] == w.tick && w.talk(i, w.leader) {
				w.heard[reader][i] = w.tick
			}
			mine := map[string]Observation{}
			for key, o := range w.store[i] {
				old, had := w.read[reader][i][key]
				if o.Heard, o.Watched = w.now(), true; had && old.OK == o.OK && old.Since.Equal(o.Since) {
					o.Heard = old.Heard
				}
				mine[key] = o
			}
			w.read[reader][i] = mine
		}
	}
}

// scene is what a node knows. With speaks it judges for itself.
func (w *network) scene(i int, speaks bool) Scene {
	s := Scene{Now: w.now(), Before: w.told[i]}
	if speaks {
		s.Speaker = name(i)
	} else {
		s.Before = w.ruled
	}
	for j := range w.n {
		m := Member{Name: name(j), Votes: true, Heard: epoch0.Add(time.Duration(w.heard[i][j]) * time.Second), Offset: w.wall[j]}
		if i == j {
			m.Offset = 0
			m.Heard = w.now()
			if !speaks {
				m.Heard = epoch0.Add(time.Duration(w.heard[i][j]) * time.Second)
			}
		}
		if w.lease[j] >= 0 && w.talk(i, max(w.leader, 0)) && w.leader >= 0 {
			m.LeaseEnded = epoch0.Add(time.Duration(w.lease[j]) * time.Second)
		}
		s.Members = append(s.Members, m)
		if j == i {
			for _, o := range w.sees[i] {
				o.Since = o.Heard // its own, by its judge's clock
				s.Observations = append(s.Observations, o)
			}
			continue
		}
		for _, o := range w.read[i][j] {
			s.Observations = append(s.Observations, o)
		}
	}
	return s
}

func (w *network) fail(format string, args ...any) {
	w.t.Helper()
	text := fmt.Sprintf(format, args...)
	for _, line := range w.log {
		text += "\n" + line
	}
	w.t.Fatalf("schedule %d, %d nodes, second %d: %s", w.seed, w.n, w.tick, text)
}

// connected are the living nodes that reach the store, without one.
func (w *network) connected(but int) (out []int) {
	for i := range w.n {
		if i != but && w.leader >= 0 && w.talk(i, w.leader) {
			out = append(out, i)
		}
	}
	return out
}

func (w *network) count() {
	all := true
	for i := range w.n {
		seen, others := 0, w.connected(i)
		for _, j := range others {
			if w.talk(j, i) {
				seen++
			}
		}
		if seen*2 > len(others) {
			w.calm[i][0]++
		} else {
			w.calm[i][0] = 0
		}
		well := w.dead[i] && len(others)*2 > w.n
		for _, j := range others {
			for _, k := range others {
				well = well && w.talk(j, k)
			}
		}
		if well && w.leader >= 0 && w.leader != i {
			w.gone[i]++
		} else {
			w.gone[i] = 0
		}
		if w.leader >= 0 && w.talk(i, w.leader) {
			w.alone[i] = 0
		} else {
			w.alone[i]++
		}
		all = all && w.alone[i] == 0 && seen == w.n-1
	}
	if w.quiet++; !all {
		w.quiet = 0
	}
}

func (w *network) judge() {
	views := map[string]map[string]Verdict{}
	for i := range w.n {
		if w.dead[i] {
			continue
		}
		next := Judge(w.scene(i, true))
		views[name(i)+" itself"] = next
		if w.alone[i] > 6 {
			for subject, v := range next {
				if v.State == Lost || v.State == Suspected || v.State == OneWay {
					w.fail("%s is cut off, and says that %s is %s: %s", name(i), subject, v.State, v.Words)
				}
			}
		}
		w.newly(views[name(i)+" itself"], w.told[i], name(i))
		w.told[i] = next
	}
	if w.leader < 0 || w.tick-w.since < 2 {
		return
	}
	next := Judge(w.scene(w.leader, false))
	if next[Fleet].State == Unknown {
		return // nothing is written
	}
	w.newly(next, w.ruled, "the fleet")
	w.ruled = next
	for i := range w.n {
		if w.gone[i] > confirm+leaseTicks && next[Node(name(i))].State != Lost {
			w.fail("%s is dead for %d s, and the fleet says %s: %s", name(i), w.gone[i], next[Node(name(i))].State, next[Node(name(i))].Words)
		}
		if w.quiet > 60 {
			switch state := next[Node(name(i))].State; state {
			case Fine, Slow, Clock, Flapping:
			default:
				w.fail("all is well for %d s, and %s is %s: %s", w.quiet, name(i), state, next[Node(name(i))].Words)
			}
		}
	}
}

// newly checks each loss at the moment at which it is first held.
func (w *network) newly(next, before map[string]Verdict, who string) {
	for i := range w.n {
		v, was := next[Node(name(i))], before[Node(name(i))]
		if v.State != Lost || was.State == Lost {
			continue
		}
		w.lost++
		if w.calm[i][0] > 3 {
			w.fail("%s says that %s is lost, and a majority reaches it for %d s: %s", who, name(i), w.calm[i][0], v.Words)
		}
		if len(observers(v.For)) < v.Quorum || len(kinds(v.For)) < 2 {
			w.fail("%s says that %s is lost by %v, %v", who, name(i), observers(v.For), kinds(v.For))
		}
	}
}

func TestRandomNetworksNeverAccuseWhoCanBeReached(t *testing.T) {
	t.Parallel()
	runNetworks(t, 0, *schedules)
}

func runNetworks(t *testing.T, first uint64, n int) {
	t.Helper()
	lost := 0
	for seed := range uint64(n) {
		w := newNetwork(t, first+seed)
		for w.tick = 1; w.tick < 320; w.tick++ {
			w.happen(w.tick > 230)
			w.look()
			w.elect()
			w.publish()
			w.count()
			w.judge()
		}
		lost += w.lost
	}
	if lost < n/4 {
		t.Fatalf("only %d losses in %d schedules: the network is too kind", lost, n)
	}
	t.Logf("%d schedules, %d losses confirmed", n, lost)
}
