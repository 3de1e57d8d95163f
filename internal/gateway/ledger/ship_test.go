package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestARequestIsOneRowWhetherItsOutcomeComesNowOrLater(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 2)
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer n.stop()

	merged := n.admit(admission(orgs[0], true))
	n.finish(merged, outcome(1234))
	later := n.admit(admission(orgs[1], false))
	running := n.admit(admission(orgs[0], true))
	n.refuse(&Refusal{At: time.Now(), Organisation: orgs[0], Key: "k", Endpoint: wire.Messages, Model: "m", Rule: "class-ceiling", Status: 403})
	n.flush()
	e.verify(t, d)

	n.attempt(later, &Attempt{At: time.Now(), N: 2, Provider: "mistral", ProviderModel: "mistral-large", Jurisdiction: "FR", Controller: "FR"})
	n.flush()
	e.verify(t, d)
	n.attempt(later, &Attempt{At: time.Now(), N: 3, Provider: "anthropic", ProviderModel: "claude", Jurisdiction: "US", Controller: "US", LeavesEEA: true, Safeguard: "idta"})
	o := outcome(777)
	o.Tries = []Try{{Provider: "openai", Status: 500, Reason: "upstream error\x00"}, {Provider: "anthropic", Status: 200, Duration: time.Second}}
	n.finish(later, o)
	n.flush()
	e.verify(t, d)

	store := NewStore(d, guard(d))
	row, _, err := store.Request(t.Context(), operator, later)
	if err != nil {
		t.Fatal(err)
	}
	if row.State != "ok" || row.Provider != "anthropic" || row.Jurisdiction != "US" || len(row.Tries) != 2 || row.Tries[0].Status != 500 || len(row.Attempts) != 3 ||
		row.InputTokens != 100 || row.OutputTokens != 20 || row.Latency != 120*time.Millisecond || row.FirstToken != 30*time.Millisecond || !row.UsageKnown || row.Held {
		t.Errorf("got %+v", row)
	}
	if row, _, err := store.Request(t.Context(), operator, running); err != nil || row.State != StateInFlight || !row.EndedAt.IsZero() {
		t.Errorf("got %+v, %v", row, err)
	}
	if q := n.shipper.Queue(); q.Events != 0 || q.Open != 1 || q.Failure != nil || q.Shipped.Seq != n.journal.Durable() {
		t.Errorf("the queue is %+v", q)
	}
}

func TestTheDigestOfABatchIsOverItsRecords(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	n := newNode(t, d, t.TempDir(), 3, newExpectation())
	defer n.stop()
	n.finish(n.admit(admission(org, true)), outcome(1))
	h := sha256.New()
	_, err := n.journal.Read(journal.Position{}, 10, 1<<20, func(e journal.Entry) error {
		h.Write(binary.BigEndian.AppendUint64(nil, e.Seq))
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(e.Record))))
		h.Write(e.Record)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n.flush()
	var digest []byte
	err = d.Read(t.Context(), func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT digest FROM journal_batches`).Scan(&digest)
	})
	if err != nil || !bytes.Equal(digest, h.Sum(nil)) {
		t.Errorf("digest %x, want %x (%v)", digest, h.Sum(nil), err)
	}
}

var errCrash = errors.New("the shipper crashes here")

// TestACrashOfTheShipperAtAnyStepLosesAndRepeatsNothing crashes at each step,
// and goes on once with the same shipper (an error) and once with a new one
// (a restart of the process).
func TestACrashOfTheShipperAtAnyStepLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"built", "begun", "inserted", "committed", "released"} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", step, restart), func(t *testing.T) {
				t.Parallel()
				d := dbtest.New(t)
				orgs := makeOrganisations(t, d, 2)
				e := newExpectation()
				n := newNode(t, d, t.TempDir(), 1, e)
				defer n.stop()
				open := n.admit(admission(orgs[0], false))
				n.flush()
				for i := range 20 {
					id := n.admit(admission(orgs[i%2], i%3 == 0))
					if i%4 != 0 {
						n.finish(id, outcome(int64(i)))
					}
				}
				n.finish(open, outcome(99))
				crashed := 0
				n.shipper.limit = 7
				n.shipper.o.BatchEvents = 7
				n.shipper.fault = func(at string) error {
					if at == step && crashed < 2 {
						crashed++
						return errCrash
					}
					return nil
				}
				for {
					err := n.shipper.Flush(context.Background())
					if err == nil {
						break
					}
					if !errors.Is(err, errCrash) {
						t.Fatal(err)
					}
					if restart {
						fault := n.shipper.fault
						n.newShipper()
						n.shipper.fault = fault
					}
				}
				if crashed != 2 {
					t.Fatalf("it crashed %d times", crashed)
				}
				e.verify(t, d)
				for id, r := range e.requests { // what was open before the crash can still end
					if !r.ended {
						n.finish(id, outcome(5))
					}
				}
				n.flush()
				e.verify(t, d)
			})
		}
	}
}

// TestWhateverHappensTheLedgerSaysWhatTheJournalSaid drives two nodes through
// random work, crashes of shippers, reboots and sweeps.
func TestWhateverHappensTheLedgerSaysWhatTheJournalSaid(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d, root := dbtest.Open(t, cfg), dbtest.Superuser(t, cfg)
	orgs := makeOrganisations(t, d, 2)
	rapid.Check(t, func(rt *rapid.T) {
		if _, err := root.Exec(context.Background(), "TRUNCATE journal_batches, journal_rejects, "+strings.Join(tenantTables, ", ")); err != nil {
			rt.Fatal(err)
		}
		e := newExpectation()
		nodes := []*node{newNode(rt, d, t.TempDir(), 1, e), newNode(rt, d, t.TempDir(), 2, e)}
		defer func() { nodes[0].stop(); nodes[1].stop() }()
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			n := nodes[rapid.IntRange(0, 1).Draw(rt, "node")]
			org := orgs[rapid.IntRange(0, 1).Draw(rt, "org")]
			switch rapid.IntRange(0, 12).Draw(rt, "act") {
			case 0, 1, 2:
				n.admit(admission(org, rapid.Bool().Draw(rt, "own")))
			case 3, 4, 5:
				if id, ok := n.anyOpen(); ok {
					n.finish(id, outcome(rapid.Int64Range(0, 1e6).Draw(rt, "cost")))
				}
			case 6:
				if id, ok := n.anyOpen(); ok {
					n.attempt(id, &Attempt{At: time.Now(), N: 2 + e.attempts, Provider: "mistral", Jurisdiction: "FR", LeavesEEA: rapid.Bool().Draw(rt, "leaves")})
				}
			case 7:
				n.refuse(&Refusal{At: time.Now(), Organisation: org, Rule: "budget-exhausted", Status: 429})
			case 8:
				n.shipper.o.BatchEvents = rapid.IntRange(1, 9).Draw(rt, "batch")
				n.shipper.limit = n.shipper.o.BatchEvents
				n.flush()
			case 9:
				step := rapid.SampledFrom([]string{"built", "begun", "inserted", "committed", "released"}).Draw(rt, "step")
				n.shipper.fault = func(at string) error {
					if at == step {
						return errCrash
					}
					return nil
				}
				_ = n.shipper.Flush(context.Background())
				if rapid.Bool().Draw(rt, "restart") {
					n.newShipper()
				}
				n.shipper.fault = func(string) error { return nil }
			case 10:
				n.reboot()
				n.sweep()
			case 11:
				n.reboot() // killed again before it swept
			case 12:
				n.sweep() // while it serves
			}
		}
		for _, n := range nodes {
			n.reboot()
			n.sweep()
			if again := n.sweep(); again != 0 {
				rt.Fatalf("a second sweep found %d", again)
			}
			n.flush()
		}
		e.verify(rt, d)
	})
}

// anyOpen returns the first request of this boot that has not ended.
func (n *node) anyOpen() (RequestID, bool) {
	best, found := RequestID{}, false
	for id, r := range n.expect.requests {
		if id.Node == n.number && id.Boot == n.boot && !r.ended && (!found || id.Seq < best.Seq) {
			best, found = id, true
		}
	}
	return best, found
}

func TestASegmentStaysWhileItHoldsARequestWithoutOutcome(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer n.stop()
	open := n.admit(admission(org, false))
	fill := func() {
		a := admission(org, true)
		a.Model, a.Safeguard, a.ProviderModel = strings.Repeat("m", maxName), strings.Repeat("s", maxName), strings.Repeat("p", maxName)
		for range 150 { // more than two segments
			n.finish(n.admit(a), outcome(1))
		}
		n.flush()
	}
	fill()
	if before := n.journal.Stats(); before.Segments < 2 || before.Oldest.Seq > open.Seq {
		t.Fatalf("the open request's segment is gone: %+v", before)
	}
	n.newShipper() // finds the open request again
	n.finish(open, outcome(3))
	fill()
	if after := n.journal.Stats(); after.Segments != 1 {
		t.Errorf("nothing was released: %+v", after)
	}
	e.verify(t, d)
}

func TestAnotherShipperOfTheSameJournalIsNoticed(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer n.stop()
	a := n.shipper
	open := n.admit(admission(org, true))
	n.flush()
	n.newShipper()
	b := n.shipper
	n.finish(n.admit(admission(org, true)), outcome(1))
	n.flush() // b ships what a does not know of
	n.finish(open, outcome(7))
	raced := false
	for range 3 {
		err := a.Flush(context.Background())
		raced = raced || errors.Is(err, errRaced)
		if err == nil {
			break
		}
	}
	if !raced {
		t.Error("nobody noticed")
	}
	for range 3 {
		if err := b.Flush(context.Background()); err == nil {
			break
		}
	}
	e.verify(t, d)
}

func TestARecordThatCannotBeStoredIsSetAsideAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	org := makeOrganisations(t, d, 1)[0]
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 4, e)
	defer n.stop()
	if _, err := dbtest.Superuser(t, cfg).Exec(t.Context(), `ALTER TABLE requests ADD CHECK (model <> 'poison')`); err != nil {
		t.Fatal(err)
	}
	good := func(k int) {
		for range k {
			n.finish(n.admit(admission(org, true)), outcome(10))
		}
	}
	good(5)
	want := map[journal.Position]string{}
	poison := admission(org, true)
	poison.Model = "poison"
	want[n.raw(AppendAdmission(nil, poison))] = "refused by the database"
	good(3)
	want[n.raw([]byte{kindOutcome, version, 0xff})] = "damaged"
	want[n.raw([]byte{kindEnd, 9, 1, 2, 3})] = "newer version"
	want[n.raw(AppendTrace(nil, &Trace{Organisation: org, JSON: []byte(`{"half":`)}))] = "not JSON"
	want[n.raw(AppendOutcome(nil, anOutcome(987_654)))] = "not open"
	want[n.raw(AppendAttempt(nil, &Attempt{Seq: 987_654, At: time.Now()}))] = "not open"
	again := n.admit(admission(org, true))
	n.finish(again, outcome(1))
	twice := outcome(1)
	twice.Seq = again.Seq
	want[n.raw(AppendOutcome(nil, twice))] = "not open"
	good(4)
	n.flush()
	e.verify(t, d)
	if q := n.shipper.Queue(); q.Rejected != uint64(len(want)) || q.Failure != nil {
		t.Errorf("the queue is %+v", q)
	}
	verifyRejects(t, d, n, want)
	good(1) // batches grow again
	n.flush()
	e.verify(t, d)
}

// verifyRejects opens what was set aside and finds every byte of it.
func verifyRejects(t *testing.T, d *db.DB, n *node, want map[journal.Position]string) {
	t.Helper()
	_, open := seals()
	records := map[journal.Position][]byte{}
	if err := scan(t.Context(), n.journal, journal.Position{Boot: n.boot, Seq: n.journal.Durable()}, func(e *journal.Entry) {
		records[journal.Position{Boot: e.Boot, Seq: e.Seq}] = bytes.Clone(e.Record)
	}); err != nil {
		t.Fatal(err)
	}
	err := d.Read(t.Context(), func(tx pgx.Tx) error {
		rows, _ := tx.Query(t.Context(), `SELECT boot, seq, reason, sealed FROM journal_rejects`)
		var boot, seq int64
		var reason string
		var sealed []byte
		_, err := pgx.ForEachRow(rows, []any{&boot, &seq, &reason, &sealed}, func() error {
			at := journal.Position{Boot: uint32(boot), Seq: uint64(seq)}
			if want[at] == "" || !bytes.Contains([]byte(reason), []byte(want[at])) {
				t.Errorf("record %d: %q, want %q", seq, reason, want[at])
			}
			delete(want, at)
			plain, err := open(sealed, rejectContext(n.number, at))
			if err != nil || !bytes.Equal(plain, records[at]) || bytes.Contains(sealed, records[at]) {
				t.Errorf("record %d is not kept as it was: %v", seq, err)
			}
			return nil
		})
		return err
	})
	if err != nil || len(want) > 0 {
		t.Errorf("not set aside: %v (%v)", want, err)
	}
}

func TestAJournalBehindTheDatabaseIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	n.admit(admission(org, true))
	n.admit(admission(org, true))
	n.flush()
	n.stop()
	for name, boot := range map[string]uint32{"the same boot, fewer records": 0, "an earlier boot": 0} {
		if name == "an earlier boot" {
			if err := d.Ship(t.Context(), func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), `INSERT INTO journal_batches (node, boot, first_seq, last_seq, events, digest) VALUES (1, 9, 1, 1, 1, '')`)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		lost := &node{t: t, db: d, number: 1, boot: boot, dir: t.TempDir(), expect: newExpectation(), segment: 64 << 10}
		lost.start()
		lost.admit(admission(org, true))
		err := lost.shipper.Flush(t.Context())
		if p := problem.From(err); p.Code != "journal-behind" {
			t.Errorf("%s: %v", name, err)
		}
		lost.stop()
	}
}

func TestTheShipperMayOnlyInsert(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	defer n.stop()
	n.finish(n.admit(admission(org, false)), outcome(1))
	n.flush()
	for _, table := range append(tenantTables, "journal_rejects") {
		for _, act := range []string{"SELECT * FROM " + table, "DELETE FROM " + table, "TRUNCATE " + table, "UPDATE " + table + " SET " + firstColumn[table] + " = DEFAULT"} {
			err := d.Ship(t.Context(), func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), act); return err })
			if state(err) != "42501" {
				t.Errorf("%s: %v", act, err)
			}
		}
	}
	for _, act := range []string{"DELETE FROM journal_batches", "UPDATE journal_batches SET events = 0"} {
		err := d.Ship(t.Context(), func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), act); return err })
		if state(err) != "42501" {
			t.Errorf("%s: %v", act, err)
		}
	}
}

func TestFoldingKeepsEverySumAndOfPastHoursOneRow(t *testing.T) {
	t.Parallel()
	cfg := dbtest.Config(t)
	d := dbtest.Open(t, cfg)
	orgs := makeOrganisations(t, d, 2)
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer n.stop()
	base := time.Now().UTC().Truncate(time.Hour).Add(-10 * time.Hour)
	spread := func() {
		for i := range 60 {
			a := admission(orgs[i%2], i%3 == 0)
			a.At = base.Add(time.Duration(i%30) * 4 * time.Minute) // two hours
			n.finish(n.admit(a), outcome(int64(i)))
			if i%10 == 9 {
				n.flush()
			}
		}
		n.finish(n.admit(admission(orgs[0], true)), outcome(1)) // and now
		n.flush()
	}
	fold := func() (folded int64) {
		err := d.Ship(t.Context(), func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT ledger_fold(now() - interval '3 hours')`).Scan(&folded)
		})
		if err != nil {
			t.Fatal(err)
		}
		return folded
	}
	count := func() (rows int) {
		err := d.Read(t.Context(), func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT count(*) FROM usage_deltas`).Scan(&rows)
		})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	for round := 1; round <= 3; round++ {
		spread()
		before := count()
		if fold() == 0 || count() >= before {
			t.Errorf("round %d: %d rows before folding, %d after", round, before, count())
		}
		e.verify(t, d)
	}
	if fold() != 0 {
		t.Error("what is folded was folded again")
	}
	err := d.Ship(t.Context(), func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), `SELECT ledger_fold(now())`); return err })
	if state(err) != "P0001" {
		t.Errorf("the running hour may be folded: %v", err)
	}
	err = d.Org(t.Context(), orgs[0], func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SELECT ledger_fold(now() - interval '3 hours')`)
		return err
	})
	if state(err) != "42501" {
		t.Errorf("the application may fold: %v", err)
	}
}

func TestTheRegisterHoldsWhatSomebodyMustAnswerFor(t *testing.T) {
	for _, c := range []struct{ leaves, restricted, own, want bool }{
		{leaves: true, want: true},
		{leaves: true, own: true, want: true},
		{restricted: true, want: true},
		{restricted: true, own: true, want: false},
		{own: true, want: false},
		{want: false},
	} {
		if got := registered(c.leaves, c.restricted, c.own); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
