//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/daemon"
)

// writers make organisations and are denied things, at once, and remember what
// they were told.
type writers struct {
	n *node

	mu       sync.Mutex
	asked    map[string]bool // names of organisations that were asked for
	made     map[string]bool // and that the node says are there
	denials  int             // asked for
	denied   int             // answered
	refusals map[string]int  // what else was answered
	stop     chan struct{}
	all      sync.WaitGroup
}

func (n *node) writers(makers, denied int) *writers {
	w := &writers{n: n, asked: map[string]bool{}, made: map[string]bool{}, refusals: map[string]int{}}
	w.begin(makers, denied)
	return w
}

func (w *writers) begin(makers, denied int) {
	w.stop = make(chan struct{})
	forever := func(act func()) {
		w.all.Go(func() {
			for {
				select {
				case <-w.stop:
					return
				default:
					act()
				}
			}
		})
	}
	for range makers {
		forever(w.one)
	}
	for range denied {
		forever(w.deny)
	}
}

func (w *writers) one() {
	name := unique("org")
	w.note(func() { w.asked[name] = true })
	err := w.n.call("POST", "/api/v1/organisations", map[string]any{"name": name}, nil)
	w.note(func() {
		if err == nil {
			w.made[name] = true
		} else {
			w.refusals[reasonOf(err)]++
		}
	})
	if err != nil {
		pass(glance)
	}
}

// deny asks for what nobody may do: the installation's keys cannot be shredded.
func (w *writers) deny() {
	w.note(func() { w.denials++ })
	err := w.n.call("POST", "/api/v1/encryption/shreds", map[string]any{"organisation": "installation", "reason": "nobody may do that"}, nil)
	if err != nil && strings.Contains(err.Error(), "shred-installation") {
		w.note(func() { w.denied++ })
	} else {
		pass(glance)
	}
}

func (w *writers) note(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
}

func (w *writers) count() (made, denied int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.made), w.denied
}

// end waits for what is under way.
func (w *writers) end() { close(w.stop); w.all.Wait() }

// flows waits until acts are acknowledged again.
func (w *writers) flows(t *testing.T) {
	t.Helper()
	made, denied := w.count()
	eventually(t, "acts to be acknowledged", func() (bool, string) {
		m, d := w.count()
		return m >= made+10 && d > denied, fmt.Sprint(m-made, " acts, ", d-denied, " denials; ", w.refusals)
	})
}

// reasonOf is the problem's code in an error of call, or that there was no
// answer.
func reasonOf(err error) string {
	_, text, found := strings.Cut(err.Error(), " {")
	var p struct {
		Status     int
		Code, Mend string
	}
	if !found || json.Unmarshal([]byte("{"+text), &p) != nil {
		return "no answer"
	}
	if p.Mend == "" {
		p.Code += " without a word of what to do"
	}
	return fmt.Sprint(p.Status, " ", p.Code)
}

// listed reads entries of an act from the audit log, as an auditor would.
func (n *node) listed(act, outcome string) (out []audit.Row) {
	n.t.Helper()
	for before := ""; ; {
		var page []audit.Row
		n.must("GET", "/audit?"+url.Values{"act": {act}, "outcome": {outcome}, "limit": {"1000"}, "before": {before}}.Encode(), nil, &page)
		out = append(out, page...)
		if len(page) < 1000 {
			return out
		}
		before = page[len(page)-1].ID.String()
	}
}

// addUp compares what was acknowledged with what is there and with what the
// audit log says of it: one entry for each act.
func (w *writers) addUp(t *testing.T) {
	t.Helper()
	complain := limited(t)
	var there []api.Organisation
	w.n.must("GET", "/organisations", nil, &there)
	names, found := map[string]string{}, map[string]bool{}
	for _, o := range there {
		if o.Name != daemon.ProbeOrganisation { // which the node makes by itself, between these two readings too
			names[o.ID.String()], found[o.Name] = o.Name, true
		}
	}
	entries := map[string]int{}
	for _, e := range w.n.listed("organisation.create", "done") {
		if e.Target == daemon.ProbeOrganisation {
			continue
		}
		name, known := names[e.Organisation.String()]
		if !known {
			name, known = names[e.Target]
		}
		if !known {
			complain("there is an entry for an organisation that is not there: %+v", e)
		}
		entries[name]++
	}
	for name := range w.made {
		if !found[name] {
			complain("%s was acknowledged and is lost", name)
		}
	}
	for name := range found {
		if entries[name] != 1 {
			complain("%s has %d entries in the audit log, want one (acknowledged: %v)", name, entries[name], w.made[name])
		}
	}
	// Denials that a full disk refused are held, and stored once it has room.
	eventually(t, "the denials to be in the audit log", func() (bool, string) {
		n := len(w.n.listed("keys.shred.request", "denied"))
		if n > w.denials {
			t.Errorf("%d denials were asked for, and %d are in the audit log", w.denials, n)
		}
		return n >= w.denied, fmt.Sprintf("%d were asked for, %d answered, and %d are in the audit log", w.denials, w.denied, n)
	})
}

// Killed at any moment while many act at once, alone or with its database, a
// node loses no act that was acknowledged and no entry, and its log goes on
// from every checkpoint that was ever given out.
func TestTheAuditLogOutlivesKillsUnderLoad(t *testing.T) {
	t.Parallel()
	n := newNode(t, "")
	n.start()
	keeper := newAuditor(t, n)
	kills := 4
	if testing.Short() {
		kills = 2
	}
	w := n.writers(12, 4)
	for round := range kills {
		w.flows(t)
		stop, kept, grown := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() { // up to the last moment
			defer close(kept)
			for before := len(keeper.sizes); ; {
				select {
				case <-stop:
					return
				default:
					keeper.keep()
					if len(keeper.sizes) >= before+2 {
						before = math.MaxInt - 2
						close(grown)
					}
					pass(glance)
				}
			}
		}()
		server := n.postmaster()
		select {
		case <-grown: // every kill comes after checkpoints of its own
		case <-time.After(patience):
			t.Errorf("round %d gave no two checkpoints", round)
		}
		pass(rand.N(500 * time.Millisecond))
		if round%2 == 1 {
			signalAll(family(server), syscall.SIGKILL)
		}
		n.kill()
		close(stop)
		<-kept
		n.start()
	}
	w.flows(t)
	w.end()
	w.addUp(t)
	if len(keeper.sizes) < 2*kills || keeper.sizes[0] == keeper.sizes[len(keeper.sizes)-1] {
		t.Errorf("checkpoints over %v: this test did not test", keeper.sizes)
	}
	keeper.keep()
	sample := keeper.kept
	if len(sample) > 40 {
		sample = sample[len(sample)-40:]
	}
	keeper.kept = sample
	keeper.verify(t)
	made, denied := w.count()
	t.Logf("%d kills, %d acts and %d denials acknowledged, %d checkpoints kept; %v", kills, made, denied, len(keeper.sizes), w.refusals)
}

// Held while its sequencer commits a piece of the tree, and killed, a node
// gives out no checkpoint that the tree does not follow from.
func TestASequencerIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "")
	i.start()
	keeper := newAuditor(t, i.node)
	w := i.writers(4, 1)
	for n, step := range []string{
		"BEFORE INSERT ON audit_leaves",
		"AFTER INSERT ON audit_leaves",
		"BEFORE INSERT ON audit_checkpoints",
		"AFTER INSERT OR UPDATE ON audit_checkpoints",
	} {
		w.flows(t)
		keeper.keep()
		i.holdAt(step)
		i.held(1)
		if n == 0 {
			w.flows(t) // nobody waits for the tree
		}
		i.killHeld(1)
		i.start()
		keeper.keep()
	}
	w.flows(t)
	w.end()
	w.addUp(t)
	keeper.keep()
	keeper.verify(t)
}

// On a full disk what must be audited is refused with a word of what to do,
// reading goes on, and nothing that was acknowledged is lost; with space again
// it goes on by itself.
func TestAFullDiskStopsPrivilegedActsOnly(t *testing.T) {
	t.Parallel()
	dir := disk(t, "320m")
	n := newNodeIn(t, dir, "")
	n.start()
	keeper := newAuditor(t, n)
	w := n.writers(6, 2)
	w.flows(t)
	keeper.keep()
	free := fill(t, dir)
	defer func() {
		if free != nil {
			free()
		}
	}()
	eventually(t, "acts to be refused", func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		sum := 0
		for _, n := range w.refusals {
			sum += n
		}
		return sum > 20, fmt.Sprint(w.refusals)
	})
	for _, path := range []string{"/organisations", "/status", "/keys"} {
		if err := n.call("GET", "/api/v1"+path, nil, nil); err != nil {
			t.Errorf("reading on a full disk: %v", err)
		}
	}
	w.note(func() {
		for reason, times := range w.refusals {
			if !strings.HasPrefix(reason, fmt.Sprint(http.StatusServiceUnavailable)) || strings.Contains(reason, "without") {
				t.Errorf("on a full disk %d acts were answered: %s", times, reason)
			}
		}
		t.Logf("on the full disk: %v", w.refusals)
	})
	s := n.run("org", "create", "on-a-full-disk")
	if s.code != 69 || s.err == "" {
		t.Errorf("a command on a full disk ended with %d: %s", s.code, s.err)
	}
	t.Logf("a command is told: %s", s.err)
	free()
	free = nil
	w.flows(t)
	w.end()
	n.settled()
	w.addUp(t)
	keeper.keep()
	keeper.verify(t)
}
