package fleet_test

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// door passes connections on until it is shut. What is open then breaks.
type door struct {
	to string
	l  net.Listener

	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func newDoor(t testing.TB, at, to string) *door {
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{to: to, l: l}
	t.Cleanup(func() { _ = l.Close(); d.close(true) })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go d.pass(in)
		}
	}()
	return d
}

func (d *door) pass(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", d.to)
	if err != nil {
		return
	}
	defer out.Close()
	d.mu.Lock()
	if d.shut {
		d.mu.Unlock()
		return
	}
	d.conns = append(d.conns, in, out)
	d.mu.Unlock()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	}()
	_, _ = io.Copy(in, out)
}

func (d *door) close(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut = shut; shut {
		for _, c := range d.conns {
			_ = c.Close()
		}
		d.conns = nil
	}
}

// TestANodeThatReachesAndIsNotReachedIsToldFromALostOne shuts all ways in to
// node3, and leaves it all ways out.
func TestANodeThatReachesAndIsNotReachedIsToldFromALostOne(t *testing.T) {
	t.Parallel()
	var doors []*door
	l := newLab(t, 3, confirmIn(time.Hour), func(i int, o *member.Options) {
		if i != 2 {
			return
		}
		in := membertest.Free(t, 3)
		for j, to := range []string{o.Listen.Peers, o.Listen.Clients, o.Listen.Join} {
			doors = append(doors, newDoor(t, in[j], to))
		}
		o.Advertise = member.Addresses{Peers: in[0], Clients: in[1], Join: in[2]}
	})
	l.watchAll()
	for _, d := range doors {
		d.close(true)
	}
	l.machines["node3"].down()
	l.ruled("node/node3", verdict.OneWay)
	v, _ := l.services[0].Ruled("node/node3")
	if !strings.Contains(v.Words, "it lives") {
		t.Errorf("held of node3: %s", v.Words)
	}
	held, _ := l.services[0].Held("node/node3")
	if !held.Avoid() {
		t.Errorf("node1 does not reach node3, and sends it traffic: %+v", held)
	}
	if all := l.confirmed(); len(all) != 0 {
		t.Errorf("confirmed: %+v", all)
	}
	for _, d := range doors {
		d.close(false)
	}
	l.machines["node3"].up()
	l.ruled("node/node3", verdict.Fine)
}

// lie publishes for a member, under its lease, whatever it is told to, in place
// of its service.
func (l *lab) lie(i int, about func() map[string]bool) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m := l.f.Members[i]
	type sight struct {
		Probe  string    `json:"p"`
		Signal string    `json:"s"`
		OK     bool      `json:"o"`
		Code   string    `json:"c"`
		Since  time.Time `json:"t"`
	}
	go func() {
		defer close(done)
		since, said := map[string]time.Time{}, map[string]bool{}
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for ctx.Err() == nil {
			if lease := m.Presence(); lease != nil {
				writes := []member.Write{{Path: "beats/" + m.Name(), Value: map[string]time.Time{"at": time.Now()}}}
				for subject, ok := range about() {
					if old, had := said[subject]; !had || old != ok {
						said[subject], since[subject] = ok, time.Now()
					}
					var all []sight
					for _, signal := range []string{"https", "tcp", "peer"} {
						s := sight{signal, signal, ok, "", since[subject]}
						if !ok {
							s.Code = "timeout"
						}
						all = append(all, s)
					}
					writes = append(writes, member.Write{Path: "seen/" + m.Name() + "/" + subject, Value: all})
				}
				_, _ = m.Store().PutAll(ctx, writes, member.Under(lease))
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

// TestALyingObserverIsNamedAndNeitherCausesNorPreventsALoss has node2 say that
// everything is away, and then, when node3 really is, that nothing is.
func TestALyingObserverIsNamedAndNeitherCausesNorPreventsALoss(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3, quick, nil)
	l.watchAll()
	l.stop(1)
	var mu sync.Mutex
	well := false
	defer l.lie(1, func() map[string]bool {
		mu.Lock()
		defer mu.Unlock()
		return map[string]bool{"node/node1": well, "node/node3": well, "function/shop": well}
	})()
	l.ruled("node/node2", verdict.Disputed)
	v, _ := l.services[0].Ruled("node/node2")
	if !strings.Contains(v.Words, "contradict all the others") {
		t.Errorf("held of node2: %s", v.Words)
	}
	// It has stood for longer than a loss takes.
	began := time.Now()
	l.await("the lie has stood for long", func() bool { return time.Since(began) > l.rules.Confirm+time.Second })
	for _, subject := range []string{"node/node1", "node/node3", "function/shop"} {
		if v, _ := l.services[0].Ruled(subject); v.State == verdict.Lost {
			t.Errorf("%s is %s by one word: %s", subject, v.State, v.Words)
		}
	}
	mu.Lock()
	well = true
	mu.Unlock()
	l.kill(2)
	l.shop.down()
	l.ruled("node/node3", verdict.Lost)
	v, _ = l.services[0].Ruled("node/node3")
	if slices.ContainsFunc(v.For, func(o verdict.Observation) bool { return o.Observer == "node2" }) {
		t.Errorf("the liar is among the evidence: %+v", v.For)
	}
}
