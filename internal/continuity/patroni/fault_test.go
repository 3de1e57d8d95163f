//go:build faults

package patroni_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// writers write one row after another, each through a connection to whichever
// server can be written, and remember what was acknowledged.
type writers struct {
	t    *testing.T
	stop context.CancelFunc
	wait sync.WaitGroup

	mu    sync.Mutex
	acked map[int64]bool
	last  time.Time
	first time.Time // of those that began after the mark
	mark  int64
	gap   time.Duration // longest between two acknowledgements
	next  atomic.Int64
	lost  atomic.Int64 // without an answer
}

func (l *lab) write(n int) *writers {
	l.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{t: l.t, stop: stop, acked: map[int64]bool{}}
	for range n {
		w.wait.Go(func() {
			var conn *pgx.Conn
			for ctx.Err() == nil {
				if conn == nil {
					c, err := pgx.ParseConfig(l.dsn())
					if err != nil {
						panic(err)
					}
					c.User, c.Password, c.ConnectTimeout = string(db.Migrator), l.pass, 2*time.Second
					one, cancel := context.WithTimeout(ctx, 3*time.Second)
					conn, err = pgx.ConnectConfig(one, c)
					cancel()
					if err != nil {
						conn = nil
						continue
					}
				}
				id := w.next.Add(1)
				one, cancel := context.WithTimeout(ctx, 2*time.Second)
				tag, err := conn.Exec(one, `INSERT INTO acknowledged (id) VALUES ($1)`, id)
				cancel()
				if err != nil || tag.RowsAffected() != 1 {
					w.lost.Add(1)
					_ = conn.Close(context.Background())
					conn = nil
					continue
				}
				w.take(id)
			}
			if conn != nil {
				_ = conn.Close(context.Background())
			}
		})
	}
	l.t.Cleanup(w.end)
	return w
}

func (w *writers) take(id int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.acked[id] = true
	if !w.last.IsZero() {
		w.gap = max(w.gap, now.Sub(w.last))
	}
	if w.last = now; id > w.mark && w.first.IsZero() {
		w.first = now
	}
}

// after marks this moment: what begins from now on counts anew.
func (w *writers) after() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark, w.first, w.gap = w.next.Load(), time.Time{}, 0
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// more waits until that many more are acknowledged.
func (w *writers) more(n int) {
	w.t.Helper()
	want := w.count() + n
	membertest.Await(w.t, fmt.Sprint(n, " more writes are acknowledged"), func(context.Context) bool { return w.count() >= want })
}

func (w *writers) end() { w.stop(); w.wait.Wait() }

// missing are those that were acknowledged and are not there.
func (l *lab) missing(w *writers, on string) (out []int64) {
	l.t.Helper()
	text, err := l.sql(l.node(on), "foundry", "SELECT id FROM acknowledged")
	if err != nil {
		l.t.Fatal(err)
	}
	there := map[int64]bool{}
	for id := range strings.FieldsSeq(text) {
		there[int64(atoi(id))] = true
	}
	for id := range w.acked {
		if !there[id] {
			out = append(out, id)
		}
	}
	return out
}

// ready is a lab with Foundry's database and a table to write into.
func ready(t *testing.T, nodes int) (*lab, patroni.Picture) {
	l := startLab(t, nodes)
	p := l.leads("")
	l.prepare(p.Leader)
	if err := db.Migrate(t.Context(), l.config(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.sql(l.node(p.Leader), "foundry", "CREATE TABLE acknowledged (id bigint PRIMARY KEY); ALTER TABLE acknowledged OWNER TO foundry_migrator;"); err != nil {
		t.Fatal(err)
	}
	return l, p
}

func (l *lab) watch() *patroni.Watch {
	return &patroni.Watch{Store: l.store(), Client: l.client(), Clock: time.Now}
}

func TestAKilledLeaderIsReplacedAndNothingAcknowledgedIsLost(t *testing.T) {
	l, p := ready(t, 3)
	if e, err := db.BeginEpoch(t.Context(), l.config(), 1, p.Leader, p.Timeline); err != nil || e != 1 {
		t.Fatalf("the first epoch: %d, %v", e, err)
	}
	w := l.write(4)
	w.more(200)
	old := l.node(p.Leader)
	killed := time.Now()
	l.kill(old)
	w.after()

	watch := l.watch()
	facts, err := watch.Fenced(t.Context(), old.Name, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	fenced := time.Since(killed)
	s, by, err := watch.Led(t.Context(), []string{old.Name}, "", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	w.more(200)
	w.mu.Lock()
	first := w.first.Sub(killed)
	w.mu.Unlock()
	t.Logf("first write on %s %.1f s after the kill of %s (load of the machine: %s); fenced after %.1f s: %v; timeline %d", s.Leader, first.Seconds(), old.Name, load(), fenced.Seconds(), facts, by.Timeline)
	if by.Timeline <= p.Timeline || facts["leader"] != s.Leader || facts["strict"] != "true" {
		t.Errorf("%s leads on timeline %d after %d; fence %v", s.Leader, by.Timeline, p.Timeline, facts)
	}
	if _, err := db.BeginEpoch(t.Context(), l.config(), 2, old.Name, p.Timeline); err == nil {
		t.Error("an epoch was begun for a timeline that is over")
	}
	if e, err := db.BeginEpoch(t.Context(), l.config(), 2, s.Leader, by.Timeline); err != nil || e != 2 {
		t.Errorf("the second epoch: %d, %v", e, err)
	}

	// The old leader comes back, and follows.
	l.start(old)
	membertest.Await(t, "the old leader follows", func(ctx context.Context) bool {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		facts, err := watch.Fenced(one, old.Name, func(string) {})
		return err == nil && facts["state"] == "follows "+s.Leader
	})
	w.more(50)
	w.end()
	if lost := l.missing(w, s.Leader); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost: %v", len(lost), lost)
	}
	t.Logf("%d writes acknowledged, %d without an answer, none lost", w.count(), w.lost.Load())
	// What led before shows a lower epoch nowhere: it has the new one.
	membertest.Await(t, "the old leader has the epoch", func(context.Context) bool {
		out, err := l.sql(old, "foundry", "SELECT max(epoch) FROM fleet_epoch")
		return err == nil && out == "2"
	})
}

func TestALeaderStaysWhenAMemberOfTheStoreDies(t *testing.T) {
	l, p := ready(t, 2)
	w := l.write(2)
	w.more(50)
	w.after()
	l.killMember(l.fleet.Leader(t))
	until := time.Now().Add(2 * p.TTL())
	for time.Now().Before(until) {
		w.more(1)
		if q, err := l.store().Picture(t.Context()); err == nil && (q.Leader != p.Leader || q.Since != p.Since) {
			t.Fatalf("%s led since %d; now %s since %d", p.Leader, p.Since, q.Leader, q.Since)
		}
	}
	w.end()
	t.Logf("the leader stayed for %s; longest pause of %d writes %.2f s", 2*p.TTL(), w.count(), w.gap.Seconds())
	if lost := l.missing(w, p.Leader); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost", len(lost))
	}
}

func TestWithoutItsStoreTheLeaderGoesOn(t *testing.T) {
	l, p := ready(t, 3)
	w := l.write(2)
	w.more(50)
	c := l.client()
	leader, _ := p.Member(p.Leader)
	for i := range 3 {
		l.killMember(i)
	}
	w.after()
	membertest.Await(t, "the leader says that it goes on without its store", func(ctx context.Context) bool {
		s, err := c.Server(ctx, leader)
		return err == nil && s.Role == patroni.Leader && s.Failsafe
	})
	for until := time.Now().Add(2 * p.TTL()); time.Now().Before(until); {
		w.more(1)
	}
	w.end()
	s, err := c.Server(t.Context(), leader)
	if err != nil || s.Role != patroni.Leader || s.Timeline != p.Timeline {
		t.Errorf("%s: %+v, %v", p.Leader, s, err)
	}
	t.Logf("writes went on for %s without a store; longest pause of %d %.2f s", 2*p.TTL(), w.count(), w.gap.Seconds())
	if lost := l.missing(w, p.Leader); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost", len(lost))
	}
}

// TestWhatIsAskedOfPatroni goes through what changes something: hand over, what
// an operator has set, a copy made anew. With PATRONI_RECORD it writes the
// answers that the unit tests read.
func TestWhatIsAskedOfPatroni(t *testing.T) {
	l, p := ready(t, 3)
	l.record(p, "steady")
	watch := l.watch()
	leader, _ := p.Member(p.Leader)
	if err := watch.Client.Set(t.Context(), leader, map[string]any{"synchronous_mode_strict": nil, "failsafe_mode": false}); err != nil {
		t.Fatal(err)
	}
	finding := func(id string) bool {
		s, err := watch.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Findings {
			if f.ID == id {
				return f.OK
			}
		}
		t.Fatalf("nothing says %s: %+v", id, s.Findings)
		return false
	}
	if finding("strict") || finding("failsafe") {
		t.Error("a cluster that is not strict, and stops without its store, keeps its promises")
	}
	l.record(p, "lenient")
	if err := watch.Client.Set(t.Context(), leader, map[string]any{"synchronous_mode_strict": true, "failsafe_mode": true}); err != nil {
		t.Fatal(err)
	}
	if !finding("strict") || !finding("failsafe") || !finding("standby") || !finding("timings") || !finding("spare") {
		t.Error("a strict cluster with three members does not keep its promises")
	}

	if err := watch.Client.Failover(t.Context(), leader, "node9"); err == nil {
		t.Error("a member that there is not was made the leader")
	}
	by, err := watch.Ask(t.Context(), func(m patroni.Member) error { return watch.Client.Switchover(t.Context(), m, p.Leader, p.Standbys[0]) })
	if err != nil {
		t.Fatal(err)
	}
	q := l.leads(p.Leader)
	if q.Leader != p.Standbys[0] || q.Timeline <= p.Timeline {
		t.Errorf("asked by %s for %s: %s leads on timeline %d", by, p.Standbys[0], q.Leader, q.Timeline)
	}
	facts, err := watch.Fenced(t.Context(), p.Leader, func(string) {})
	if err != nil || facts["leader"] != q.Leader {
		t.Errorf("a leader that handed over: %v, %v", facts, err)
	}
	var spare patroni.Member
	for _, m := range q.Members {
		if m.Name != q.Leader && m.Name != q.Standbys[0] {
			spare = m
		}
	}
	if err := watch.Client.Reinitialise(t.Context(), spare); err != nil {
		t.Fatal(err)
	}
	membertest.Await(t, spare.Name+" copied everything anew", func(ctx context.Context) bool {
		s, err := watch.Client.Server(ctx, spare)
		return err == nil && s.State == "running" && s.Role == patroni.Replica
	})
	if err := watch.Client.Reinitialise(t.Context(), leaderOf(q)); err == nil {
		t.Error("a leader threw its data away")
	}
	l.record(q, "handed-over")
	l.refusesOldTLS(q)
}

func leaderOf(p patroni.Picture) patroni.Member { m, _ := p.Member(p.Leader); return m }

func (l *lab) refusesOldTLS(p patroni.Picture) {
	l.t.Helper()
	watch := l.watch()
	watch.OldTLS = l.tlsOf
	s, err := watch.Look(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	found := false
	for _, f := range s.Findings {
		if f.ID == "rest-tls" {
			if found = true; !f.OK {
				l.t.Error(f.Words)
			}
		}
	}
	if !found {
		l.t.Errorf("nothing was tried: %+v", s.Findings)
	}
	// Without a certificate of the fleet nobody is answered.
	c := l.tlsOf(p.Leader)
	c.GetClientCertificate = nil
	q, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, leaderOf(p).API, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	if a, err := client.Do(q); err == nil {
		_ = a.Body.Close()
		l.t.Error("a caller without a certificate was answered")
	}
	// Nor does a certificate do without the password, for what changes something.
	nobody := &patroni.Client{HTTP: l.client().HTTP, Secret: func(context.Context) (string, error) { return "guessed", nil }}
	if err := nobody.Set(l.t.Context(), leaderOf(p), map[string]any{"failsafe_mode": false}); err == nil {
		l.t.Error("the configuration was changed with a wrong password")
	}
}

// record writes real answers where the unit tests read them.
func (l *lab) record(p patroni.Picture, as string) {
	dir := os.Getenv("PATRONI_RECORD")
	if dir == "" {
		return
	}
	for _, m := range p.Members {
		for _, path := range []string{"/cluster", "/patroni", "/leader", "/config", "/history", "/failsafe"} {
			if m.Name != p.Leader && path != "/patroni" && path != "/leader" {
				continue
			}
			a, err := l.client().HTTP(m.Name).Get(strings.TrimSuffix(m.API, "/patroni") + path)
			if err != nil {
				l.t.Fatal(err)
			}
			text, _ := io.ReadAll(a.Body)
			_ = a.Body.Close()
			var pretty any
			if json.Unmarshal(text, &pretty) == nil {
				text, _ = json.MarshalIndent(pretty, "", "  ")
			}
			name := fmt.Sprintf("%s-%s-%s-%d.json", as, map[bool]string{true: "leader", false: m.Role}[m.Name == p.Leader], path[1:], a.StatusCode)
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	r, err := l.member().Client().Get(l.t.Context(), patroni.Prefix+patroni.DefaultScope+"/", withPrefix)
	if err != nil {
		l.t.Fatal(err)
	}
	keys := map[string]string{}
	for _, kv := range r.Kvs {
		keys[string(kv.Key)] = string(kv.Value)
	}
	text, _ := json.MarshalIndent(keys, "", "  ")
	if err := os.WriteFile(filepath.Join(dir, as+"-store.json"), text, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// load is how busy the machine was, without which a time says little.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	all, _, _ := strings.Cut(string(text), " ")
	return all
}
