package ledger

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var operator = principal.Principal{Kind: principal.Local, ID: "operator", UID: 1000}

// tb is what a test and a rapid check have in common.
type tb interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Logf(string, ...any)
}

// seals are AES-GCM with a fixed key: enough to see that what is set aside is
// sealed to its place.
func seals() (seal, open func(in, ad []byte) ([]byte, error)) {
	block, _ := aes.NewCipher(make([]byte, 32))
	aead, _ := cipher.NewGCM(block)
	nonce := make([]byte, 12)
	return func(in, ad []byte) ([]byte, error) { return aead.Seal(nil, nonce, in, ad), nil },
		func(in, ad []byte) ([]byte, error) { return aead.Open(nil, nonce, in, ad) }
}

func guard(d *db.DB) *access.Guard {
	e, err := policy.Builtin()
	if err != nil {
		panic(err)
	}
	return access.NewGuard(e, d, time.Now, policy.Development)
}

// member is a person who showed a second factor just now.
func member(org uuid.UUID, roles ...principal.Role) principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: "0190b000-0000-7000-8000-000000000001", Organisation: org, Roles: principal.RolesOf(roles...), SecondFactor: time.Now()}
}

func makeOrganisations(t tb, d *db.DB, n int) []uuid.UUID {
	t.Helper()
	var orgs []uuid.UUID
	for i := range n {
		o, err := access.CreateOrganisation(context.Background(), d, guard(d), operator, fmt.Sprintf("org-%d", i))
		if err != nil {
			t.Fatalf("making an organisation: %v", err)
		}
		orgs = append(orgs, o.ID)
	}
	return orgs
}

// node is one machine: a journal directory, and a shipper for its current boot.
type node struct {
	t       tb
	db      *db.DB
	number  uint32
	boot    uint32
	dir     string
	journal *journal.Journal
	rec     *Recorder
	shipper *Shipper
	options ShipperOptions
	segment int64

	expect *expectation
}

func newNode(t tb, d *db.DB, dir string, number uint32, e *expectation) *node {
	n := &node{t: t, db: d, number: number, dir: dir, expect: e, segment: 64 << 10}
	n.start()
	return n
}

// start boots the machine: the next boot number, a new shipper.
func (n *node) start() {
	n.t.Helper()
	n.boot++
	seal, open := seals()
	j, err := journal.Open(n.dir, journal.Options{Node: n.number, Boot: n.boot, Seal: seal, Open: open, SegmentBytes: n.segment})
	if err != nil {
		n.t.Fatalf("opening the journal: %v", err)
	}
	n.journal, n.rec = j, NewRecorder(j, n.number, n.boot)
	n.newShipper()
}

func (n *node) newShipper() {
	seal, _ := seals()
	o := n.options
	o.Node, o.Boot, o.Seal = n.number, n.boot, seal
	n.shipper = NewShipper(n.journal, n.db, o)
}

func (n *node) stop() {
	n.t.Helper()
	if err := n.journal.Close(context.Background()); err != nil {
		n.t.Fatalf("closing the journal: %v", err)
	}
}

func (n *node) reboot() { n.t.Helper(); n.stop(); n.start() }

func (n *node) flush() {
	n.t.Helper()
	if err := n.shipper.Flush(context.Background()); err != nil {
		n.t.Fatalf("shipping: %v", err)
	}
}

func (n *node) sweep() int {
	n.t.Helper()
	swept, err := Sweep(context.Background(), n.journal, n.boot, time.Now())
	if err != nil {
		n.t.Fatalf("sweeping: %v", err)
	}
	n.expect.swept(n.number, n.boot)
	return swept
}

func (n *node) durable(ticket journal.Ticket, err error) {
	n.t.Helper()
	if err == nil {
		err = ticket.Wait(context.Background())
	}
	if err != nil {
		n.t.Fatalf("writing to the journal: %v", err)
	}
	n.expect.records++
}

func (n *node) admit(a *Admission) RequestID {
	n.t.Helper()
	id, ticket, err := n.rec.Admission(a)
	n.durable(ticket, err)
	n.expect.admitted(id, a)
	return id
}

func (n *node) finish(id RequestID, o *Outcome) {
	n.t.Helper()
	o.Seq = id.Seq
	ticket, err := n.rec.Outcome(o)
	n.durable(ticket, err)
	n.expect.ended(id, o)
}

func (n *node) attempt(id RequestID, a *Attempt) {
	n.t.Helper()
	a.Seq = id.Seq
	ticket, err := n.rec.Attempt(a)
	n.durable(ticket, err)
	n.expect.moved(id, a)
}

func (n *node) refuse(f *Refusal) {
	n.t.Helper()
	ticket, err := n.rec.Refusal(f)
	n.durable(ticket, err)
	n.expect.refusals[f.Organisation]++
}

func (n *node) raw(record []byte) journal.Position {
	n.t.Helper()
	ticket, err := n.journal.Append(record)
	n.durable(ticket, err)
	return journal.Position{Boot: n.boot, Seq: ticket.Seq()}
}

// admission makes one for an organisation; own says that it stays at home.
func admission(org uuid.UUID, own bool) *Admission {
	a := &Admission{
		At: time.Now(), Organisation: org, Key: "key-" + org.String()[30:], Endpoint: wire.ChatCompletions, Model: "large", Tier: "standard",
		Class: sovereignty.Internal, Decision: [16]byte{1}, Provider: "ollama", ProviderModel: "llama3", Own: true,
		Jurisdiction: "DE", Controller: "DE", ReservedNano: 5_000, Currency: "EUR",
	}
	if !own {
		a.Provider, a.ProviderModel, a.Own, a.Jurisdiction, a.Controller = "openai", "gpt-5", false, "US", "US"
		a.LeavesEEA, a.Restricted, a.Safeguard = true, true, "idta ref-1"
	}
	return a
}

func outcome(cost int64) *Outcome {
	return &Outcome{
		At: time.Now(), Result: OK, Status: 200, Provider: "ollama", ProviderModel: "llama3", UsageKnown: true,
		Usage: wire.Usage{Input: 100, Output: 20, Set: true}, CostNano: cost, Latency: 120 * time.Millisecond, FirstToken: 30 * time.Millisecond,
	}
}

// expectation is what the ledger must say once everything is shipped.
type expectation struct {
	records   int
	requests  map[RequestID]*expected
	refusals  map[uuid.UUID]int64
	transfers int
	attempts  int
}

type expected struct {
	org      uuid.UUID
	state    string
	cost     int64
	reserved int64
	ended    bool
	provider string
}

func newExpectation() *expectation {
	return &expectation{requests: map[RequestID]*expected{}, refusals: map[uuid.UUID]int64{}}
}

func (e *expectation) admitted(id RequestID, a *Admission) {
	e.requests[id] = &expected{org: a.Organisation, state: StateInFlight, reserved: a.ReservedNano, provider: a.Provider}
	if a.LeavesEEA || a.Restricted {
		e.transfers++
	}
}

func (e *expectation) moved(id RequestID, a *Attempt) {
	e.requests[id].provider = a.Provider
	e.attempts++
	if a.LeavesEEA || a.Restricted {
		e.transfers++
	}
}

func (e *expectation) ended(id RequestID, o *Outcome) {
	r := e.requests[id]
	r.ended, r.state, r.cost = true, o.Result.String(), o.CostNano
}

// swept marks everything that earlier boots of a node left open.
func (e *expectation) swept(number, boot uint32) {
	for id, r := range e.requests {
		if id.Node == number && id.Boot < boot && !r.ended {
			r.ended, r.state, r.cost = true, StateUnknown, r.reserved
			e.records++
		}
	}
}

// verify compares the database with what was expected.
func (e *expectation) verify(t tb, d *db.DB) {
	t.Helper()
	err := d.Read(context.Background(), func(tx pgx.Tx) error {
		return errors.Join(e.verifyRequests(t, tx), e.verifySums(t, tx), e.verifyBatches(t, tx))
	})
	if err != nil {
		t.Fatalf("reading the ledger: %v", err)
	}
}

func (e *expectation) verifyRequests(t tb, tx pgx.Tx) error {
	t.Helper()
	rows, _ := tx.Query(context.Background(), `SELECT `+requestColumns+` FROM request_log l`)
	all, err := pgx.CollectRows(rows, scanRequest)
	if err != nil {
		return err
	}
	left := maps.Clone(e.requests)
	for _, r := range all {
		want := left[r.ID]
		if want == nil {
			t.Errorf("%v is in the ledger twice, or never was", r.ID)
			continue
		}
		delete(left, r.ID)
		if r.State != want.state || r.CostNano != want.cost || r.Organisation != want.org || r.Provider != want.provider {
			t.Errorf("%v: got %s at %s, cost %d; want %+v", r.ID, r.State, r.Provider, r.CostNano, *want)
		}
	}
	for id, want := range left {
		t.Errorf("%v is missing: %+v", id, *want)
	}
	return nil
}

func (e *expectation) verifySums(t tb, tx pgx.Tx) error {
	t.Helper()
	type sums struct{ requests, unknown, refusals, cost int64 }
	want := map[uuid.UUID]sums{}
	for _, r := range e.requests {
		if s := want[r.org]; r.ended {
			s.requests++
			s.cost += r.cost
			if r.state == StateUnknown {
				s.unknown++
			}
			want[r.org] = s
		}
	}
	for org, n := range e.refusals {
		s := want[org]
		s.refusals = n
		want[org] = s
	}
	rows, _ := tx.Query(context.Background(), `SELECT organisation_id, sum(requests)::bigint, sum(unknown)::bigint, sum(refusals)::bigint, sum(cost_nano)::bigint FROM usage_deltas GROUP BY 1`)
	got := map[uuid.UUID]sums{}
	var org uuid.UUID
	var s sums
	if _, err := pgx.ForEachRow(rows, []any{&org, &s.requests, &s.unknown, &s.refusals, &s.cost}, func() error { got[org] = s; return nil }); err != nil {
		return err
	}
	if !maps.Equal(got, want) {
		t.Errorf("usage: got %v, want %v", got, want)
	}
	for query, want := range map[string]int{
		`SELECT count(*) FROM transfers`:        e.transfers,
		`SELECT count(*) FROM request_attempts`: e.attempts,
	} {
		var n int
		if err := tx.QueryRow(context.Background(), query).Scan(&n); err != nil {
			return err
		}
		if n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	return nil
}

// verifyBatches checks that every record is in exactly one batch.
func (e *expectation) verifyBatches(t tb, tx pgx.Tx) error {
	t.Helper()
	var events, overlapping int
	err := tx.QueryRow(context.Background(), `SELECT COALESCE(sum(events), 0)::int, (SELECT count(*)::int FROM journal_batches a JOIN journal_batches b
		ON a.node = b.node AND a.boot = b.boot AND a.first_seq < b.first_seq AND a.last_seq >= b.first_seq) FROM journal_batches`).Scan(&events, &overlapping)
	if events != e.records || overlapping != 0 {
		t.Errorf("batches have %d events (%d batches overlap), want %d", events, overlapping, e.records)
	}
	return err
}
