//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
)

// databaseFleet is a fleet that runs its own database: one and two may run it,
// three follows. Sockets in the file system, which no cable cuts, lead to each
// node and to each node's PostgreSQL.
type databaseFleet struct {
	t   testing.TB
	net *network
	all []*machine

	one, two, three *machine
}

// databaseLease is how long one may run its database without another answer.
const databaseLease = 5 * time.Second

// newDatabaseFleet starts one; with automatic, two takes over by itself when
// one is lost.
func newDatabaseFleet(t testing.TB, automatic bool) *databaseFleet {
	t.Helper()
	f := &databaseFleet{t: t, net: newNetwork(t, 3)}
	vault := filepath.Join(tempDir(t), "vault")
	if err := errors.Join(os.Mkdir(vault, 0o777), os.Chmod(vault, 0o777)); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"one", "two", "three"} {
		roles := "gateway,fleet"
		more := fmt.Sprintf("node: {country: FI}\nlisten: {https: %q, http: \"off\"}\ndatabase: {fleet: true, lease: %s}\n", f.net.address(i+1)+":8443", databaseLease)
		if i < 2 {
			roles += ",database"
			more += fmt.Sprintf("backup: {archive_timeout: 1s, targets: [{name: vault, kind: directory, path: %q}]}\n", vault)
		}
		m := newMachine(t, f.net, i+1, name, roles, more)
		f.all = append(f.all, m)
		t.Cleanup(func() { m.signalAll(syscall.SIGKILL) }) // also what is stopped
		if i > 0 {
			m.join(f.all[0])
		}
		m.start()
		m.untilDatabase(name+" to use the database", func(s daemon.Status) bool { return s.Database.Healthy })
		if i == 0 {
			f.govern(automatic)
		}
	}
	f.one, f.two, f.three = f.all[0], f.all[1], f.all[2]
	f.prepareTable()
	if automatic {
		f.untilArmed()
	}
	return f
}

// govern puts the plan in force, before the others join: who may take over is
// given the keys for it.
func (f *databaseFleet) govern(automatic bool) {
	f.t.Helper()
	starts := map[bool]string{true: "\n    starts: automatic", false: ""}[automatic]
	text := fmt.Sprintf(`version: 1
organisation: {name: Example, country: FI, home: [EEA], owner: operator, operators: [operator]}
people:
  - {name: operator, reachable: always, credentials: scoped}
nodes:
  - {name: one, country: FI, roles: [gateway, fleet, database]}
  - {name: two, country: FI, roles: [gateway, fleet, database]}
  - {name: three, country: FI, roles: [gateway, fleet]}
functions:
  - name: platform
    title: The platform
    kind: platform
    mtd: 1h
    rto: 5 min
    rpo: 1 min
    host: [one]
    fallbacks: [{node: two, state: warm, data: backup, serves: any, automatic: true, takes: 1 min}]
    data: [everything]
    size: 1 GB
    probes: [{name: page, kind: https, target: "https://one:8443/readyz"}, {name: database, kind: tcp, target: "one:8493"}]
  - {name: answers, title: Answers to clients, kind: client, mtd: 1h, rto: 1 min, rpo: 1h, host: [one, two, three], data: [everything], size: 1 MB}
data:
  - {name: everything, title: Everything}
backups:
  - {name: vault, data: [everything], functions: [platform], continuous: 5s, made_by: foundry, to: [{name: vault, country: FI}]}
scenarios:
  - {name: primary-lost, kind: node-loss, loses: [one], signals: [{kind: peer, by: three}], detect_within: 5s, confirm_within: 15s, rto_from: detection, recovery: [move], restore_within: 1h}
recovery:
  - name: move
    title: The platform to its standby
    functions: [platform]
    onto: [two]%s
    steps:
      - {name: confirm, kind: confirm, takes: 15s}
      - {name: fence, kind: fence, takes: 15s, node: one}
      - {name: restore, kind: restore, takes: 30s, node: two}
      - {name: start, kind: promote, takes: 10s, node: two}
      - {name: validate, kind: validate, takes: 10s}
      - {name: reconcile, kind: reconcile, takes: 1 min}
`, starts)
	path := filepath.Join(f.all[0].dir, "plan.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	var revision struct{ ID string }
	if err := json.Unmarshal([]byte(f.all[0].say("plan", "submit", path, "--note", "The plan of this test.", "--json")), &revision); err != nil || revision.ID == "" {
		f.t.Fatalf("the plan was not taken: %v", err)
	}
	f.all[0].say("plan", "approve", revision.ID, "--reason", "For this test.")
}

// untilArmed waits until two holds what a take-over needs.
func (f *databaseFleet) untilArmed() {
	f.t.Helper()
	slowly(f.t, "two to be ready to take over", func() (bool, string) {
		var all []survivor.Readiness
		err := f.two.api().call(http.MethodGet, "/api/v1/fleet/readiness", nil, &all)
		for _, r := range all {
			if r.From == "one" && r.To == "two" {
				return r.State == survivor.Ready, strings.Join(r.Missing, " ")
			}
		}
		return false, fmt.Sprint(err)
	})
}

// slowly is eventually for what takes minutes on a busy machine.
func slowly(t testing.TB, what string, done func() (bool, string)) time.Duration {
	t.Helper()
	for began := time.Now(); ; pass(100 * time.Millisecond) {
		ok, state := done()
		switch took := time.Since(began); {
		case ok:
			t.Logf("waited %s for %s", took.Round(100*time.Millisecond), what)
			return took
		case took > 5*patience:
			t.Fatalf("waiting for %s: %s", what, state)
		}
	}
}

// untilDatabase waits until this node says something of the database.
func (m *machine) untilDatabase(what string, met func(daemon.Status) bool) {
	m.t.Helper()
	slowly(m.t, what, func() (bool, string) {
		var s daemon.Status
		err := m.api().call(http.MethodGet, "/api/v1/status", nil, &s)
		return err == nil && s.Database.Fleet != nil && met(s), fmt.Sprintf("%v %+v", err, s.Database.Fleet)
	})
}

func (m *machine) untilState(state string) {
	m.t.Helper()
	m.untilDatabase(m.name+" to say that the database is: "+state, func(s daemon.Status) bool { return s.Database.Fleet.State == state })
}

// untilNobody waits until this node has heard that the lease of the database
// has ended, which ends no earlier than the time of whoever ran it.
func (m *machine) untilNobody() {
	m.t.Helper()
	m.untilDatabase(m.name+" to hear that nobody runs the database", func(s daemon.Status) bool {
		return s.Database.Fleet.State == daemon.DatabaseNone && s.Database.Fleet.Primary == ""
	})
}

// processes are those of a machine, by what their command lines say; all of
// them without words.
func (m *machine) processes(words ...string) (out []int) {
	text, _ := exec.Command("ip", "netns", "pids", m.net.space(m.i)).Output()
	for f := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			continue
		}
		line, _ := os.ReadFile("/proc/" + f + "/cmdline")
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(string(line), w) }) {
			out = append(out, pid)
		}
	}
	return out
}

func (m *machine) signalAll(sig syscall.Signal, words ...string) {
	signalAll(m.processes(words...), sig)
}

// ended waits until the process of a machine that was told to stop has stopped.
func (m *machine) ended() {
	m.t.Helper()
	select {
	case <-m.exited:
	case <-time.After(5 * patience):
		m.t.Fatalf("%s does not stop", m.name)
	}
	m.mu.Lock()
	m.cmd = nil
	m.mu.Unlock()
}

// powerOff ends every process of a machine without a word.
func (m *machine) powerOff() {
	m.signalAll(syscall.SIGKILL)
	m.kill()
	m.signalAll(syscall.SIGKILL) // what was being started meanwhile
}

// postgres are the processes of the database that works in this node's
// directory.
func (m *machine) postgres() []int {
	return slices.DeleteFunc(m.processes(), func(pid int) bool {
		at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		return err != nil || at != filepath.Join(m.dir, "d", "postgres", "data")
	})
}

// enter connects directly to the PostgreSQL of a node, past Foundry.
func (m *machine) enter(ctx context.Context, role db.Role) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=8493 dbname=foundry sslmode=disable connect_timeout=10 user=%s", filepath.Join(m.dir, "d", "postgres", "run"), role))
}

// number asks the PostgreSQL of a node for one.
func (m *machine) number(query string) (n int64) {
	m.t.Helper()
	conn, err := m.enter(context.Background(), db.App)
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), query).Scan(&n); err != nil {
		m.t.Fatal(err)
	}
	return n
}

func (f *databaseFleet) prepareTable() {
	f.t.Helper()
	conn, err := f.one.enter(context.Background(), db.Migrator)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), `CREATE TABLE fault_writes (number bigint PRIMARY KEY, at text NOT NULL); GRANT SELECT, INSERT ON fault_writes TO foundry_app`); err != nil {
		f.t.Fatal(err)
	}
}

// written is a write that was acknowledged. It happened between begun and acked.
type written struct {
	number       int64 // 0: through a gateway
	at           string
	epoch        int64 // of the database that took it; 0: not known
	begun, acked time.Time
}

// scribes write into the database of every node as fast as it takes it, and
// through every node's own interface.
type scribes struct {
	f    *databaseFleet
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	last   int64
	all    []written
	failed map[string]int // per node, directly
}

const insertWrite = `INSERT INTO fault_writes (number, at) VALUES ($1, $2) RETURNING (SELECT max(epoch) FROM fleet_epoch)`

func (f *databaseFleet) write() *scribes {
	ctx, stop := context.WithCancel(context.Background())
	w := &scribes{f: f, stop: stop, failed: map[string]int{}}
	for _, m := range f.all {
		if m != f.three {
			for range 4 {
				w.done.Go(func() { w.directly(ctx, m) })
			}
		}
		w.done.Go(func() { w.through(ctx, m) })
	}
	f.t.Cleanup(w.end)
	return w
}

func (w *scribes) end() {
	w.stop()
	w.done.Wait()
}

func (w *scribes) next() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	return w.last
}

func (w *scribes) note(x written) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, x)
}

// directly keeps one session with a node's PostgreSQL and never gives up
// waiting.
func (w *scribes) directly(ctx context.Context, m *machine) {
	var conn *pgx.Conn
	for ctx.Err() == nil {
		var err error
		if conn == nil {
			if conn, err = m.enter(ctx, db.App); err != nil {
				conn = nil
			}
		}
		if conn != nil {
			x := written{number: w.next(), at: m.name, begun: time.Now()}
			if err = conn.QueryRow(ctx, insertWrite, x.number, x.at).Scan(&x.epoch); err == nil {
				x.acked = time.Now()
				w.note(x)
			} else {
				_ = conn.Close(context.Background())
				conn = nil
			}
		}
		if err != nil {
			w.mu.Lock()
			w.failed[m.name]++
			w.mu.Unlock()
			pass(glance)
		}
	}
	if conn != nil {
		_ = conn.Close(context.Background())
	}
}

// through writes through a node's own interface.
func (w *scribes) through(ctx context.Context, m *machine) {
	api := m.api()
	for ctx.Err() == nil {
		x := written{at: m.name + "'s interface", begun: time.Now()}
		if err := api.call(http.MethodPost, "/api/v1/organisations", map[string]any{"name": unique("written")}, nil); err == nil {
			x.acked = time.Now()
			w.note(x)
		}
		pass(5 * glance)
	}
}

// flow waits until a node's database acknowledges writes that begin now.
func (w *scribes) flow(m *machine) {
	w.f.t.Helper()
	now := time.Now()
	slowly(w.f.t, "writes into the database on "+m.name, func() (bool, string) {
		n := w.count(func(x written) bool { return x.at == m.name && x.begun.After(now) })
		return n >= 20, fmt.Sprint(n, " writes")
	})
}

func (w *scribes) count(which func(written) bool) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if which(x) {
			n++
		}
	}
	return n
}

// since is how long after a moment the last write began that a node's database
// acknowledged, of those before another moment.
func (w *scribes) since(m *machine, from, before time.Time) (last time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if x.at == m.name && x.begun.Before(before) {
			last = max(last, x.acked.Sub(from))
		}
	}
	return last
}

// first is when the first write into a node's database was acknowledged.
func (w *scribes) first(m *machine) (at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if x.at == m.name && (at.IsZero() || x.acked.Before(at)) {
			at = x.acked
		}
	}
	return at
}

// none complains of every write that began in a time and was acknowledged.
func (w *scribes) none(what string, from, to time.Time) {
	w.f.t.Helper()
	w.complain(what, from, to, func(written) bool { return true })
}

// noneAt is none for the database of one node.
func (w *scribes) noneAt(m *machine, what string, from, to time.Time) {
	w.f.t.Helper()
	w.complain(what, from, to, func(x written) bool { return x.at == m.name })
}

func (w *scribes) complain(what string, from, to time.Time, of func(written) bool) {
	w.f.t.Helper()
	complain := limited(w.f.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if of(x) && x.begun.After(from) && x.begun.Before(to) {
			complain("%s: a write at %s that began %s after the end of its time, and %s before it might have another, was acknowledged", what, x.at, x.begun.Sub(from), to.Sub(x.begun))
		}
	}
}

// oneAfterAnother complains when a database took a write that began after one
// of a later epoch had taken one.
func (w *scribes) oneAfterAnother() {
	w.f.t.Helper()
	complain := limited(w.f.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	first := map[int64]written{}
	for _, x := range w.all {
		if f, ok := first[x.epoch]; x.epoch > 0 && (!ok || x.acked.Before(f.acked)) {
			first[x.epoch] = x
		}
	}
	for _, x := range w.all {
		for epoch, f := range first {
			if x.epoch > 0 && x.epoch < epoch && x.begun.After(f.acked) {
				complain("%s, in epoch %d, acknowledged a write that began %s after %s had acknowledged one in epoch %d", x.at, x.epoch, x.begun.Sub(f.acked), f.at, epoch)
			}
		}
	}
}

// idlers are sessions that write nothing until they are told to.
type idlers struct {
	w     *scribes
	m     *machine
	conns []*pgx.Conn
}

func (w *scribes) idle(m *machine) *idlers {
	w.f.t.Helper()
	i := &idlers{w: w, m: m}
	for range 8 {
		conn, err := m.enter(context.Background(), db.App)
		if err != nil {
			w.f.t.Fatal(err)
		}
		i.conns = append(i.conns, conn)
	}
	return i
}

// send asks for a write in every session, and does not wait for an answer: a
// server that is stopped finds it when it goes on.
func (i *idlers) send() {
	for _, c := range i.conns {
		front := c.PgConn().Frontend()
		front.SendQuery(&pgproto3.Query{String: fmt.Sprintf("INSERT INTO fault_writes VALUES (%d, 'late')", i.w.next())})
		_ = front.Flush() // a server that is gone says so here
	}
}

// acknowledged is how many of them were, once every session has ended or
// answered.
func (i *idlers) acknowledged() (n int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range i.conns {
		all.Go(func() {
			defer c.Close(context.Background())
			for {
				m, err := c.PgConn().ReceiveMessage(ctx)
				if err != nil {
					return
				}
				switch m.(type) {
				case *pgproto3.CommandComplete:
					mu.Lock()
					n++
					mu.Unlock()
					return
				case *pgproto3.ReadyForQuery, *pgproto3.ErrorResponse:
					return
				}
			}
		})
	}
	all.Wait()
	return n
}

// kept complains of writes that were acknowledged and are not in a node's
// database.
func (w *scribes) kept(m *machine) {
	w.f.t.Helper()
	conn, err := m.enter(context.Background(), db.App)
	if err != nil {
		w.f.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, _ := conn.Query(context.Background(), `SELECT number FROM fault_writes`)
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		w.f.t.Fatal(err)
	}
	there := map[int64]bool{}
	for _, n := range numbers {
		there[n] = true
	}
	complain := limited(w.f.t)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.all {
		if x.number > 0 && x.at == m.name && !there[x.number] {
			complain("write %d, acknowledged by %s, is not there", x.number, x.at)
		}
	}
	w.f.t.Logf("%d writes were acknowledged, and %d are in the database of %s", len(w.all), len(there), m.name)
}
