package ledger

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// silent makes a gateway look as if it had last been seen so long ago.
func silent(t testing.TB, d *db.DB, node uint32, ago time.Duration) {
	t.Helper()
	err := d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE gateways SET seen_at = now() - $2::interval WHERE node = $1`, int64(node), ago)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatALostGatewayLeasedGoesBackOnceItCanSpendNothingMore(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	def := setBudget(t, d, Budget{Organisation: org, Period: Total, LimitNano: 1000, Currency: "EUR"})
	lost, other := budgetsOf(t, d, 1, 1, c, nil), budgetsOf(t, d, 2, 1, c, nil)
	one := NewGateways(d, GatewayOptions{Node: 1, Boot: 1, Trusts: time.Minute, Budgets: lost})
	two := NewGateways(d, GatewayOptions{Node: 2, Boot: 1, Trusts: time.Minute, Budgets: other})
	for _, g := range []*Gateways{one, two} {
		if err := g.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.Beat(t.Context()); err != nil || one.Peers() != 1 || two.Peers() != 1 {
		t.Fatalf("peers: %d and %d, %v", one.Peers(), two.Peers(), err)
	}
	a := lost.Account(org, "k", Limits{})
	r, err := a.Admit(c.Now(), 50, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(40, 0)
	c.advance(time.Minute)
	leaseNow(t, lost) // reports what was spent
	held, spent := committed(t, d, def.ID)
	if spent != 40 || held <= 100 {
		t.Fatalf("before: %d held, %d spent", held, spent)
	}
	for _, test := range []struct {
		name string
		ago  time.Duration
		back bool
	}{
		{"just seen", 0, false},
		{"silent for as long as it may go on by itself", time.Minute, false},
		{"silent for longer than that", time.Minute + 2*reapMargin, true},
	} {
		silent(t, d, 1, test.ago)
		if err := two.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now, _ := committed(t, d, def.ID); (now < held) != test.back {
			t.Errorf("%s: %d of %d are held", test.name, now, held)
		}
	}
	if entries := entriesOf(t, d, org, "budget.release"); entries != 1 {
		t.Errorf("%d entries of the audit log say that something was given back", entries)
	}
	if err := two.Release(t.Context()); err != nil || entriesOf(t, d, org, "budget.release") != 1 {
		t.Errorf("given back twice: %v", err)
	}

	// It lived all the while, cut off from the database, and spent 30 that
	// nobody knows of. It comes back: what it held is others' now, and what it
	// spent is charged.
	r, err = a.Admit(c.Now(), 30, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(30, 0)
	one.heard = time.Now().Add(-2 * time.Minute)
	if err := one.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Admit(c.Now(), 30, 0); err == nil {
		t.Error("it goes on with a lease that was given back")
	}
	c.advance(time.Minute)
	leaseNow(t, lost)
	granted, spent := committed(t, d, def.ID)
	if spent != 70 || granted > def.LimitNano {
		t.Errorf("after its return %d are spent and %d held of %d", spent, granted, def.LimitNano)
	}
}

func entriesOf(t testing.TB, d *db.DB, org uuid.UUID, act string) (n int) {
	t.Helper()
	err := d.Org(t.Context(), org, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT count(*) FROM audit WHERE act = $1`, act).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAGatewayThatStoppedInOrderIsNotLost(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	c := newClock(noon)
	one := NewGateways(d, GatewayOptions{Node: 1, Boot: 1, Trusts: time.Second, Budgets: budgetsOf(t, d, 1, 1, c, nil)})
	two := NewGateways(d, GatewayOptions{Node: 2, Boot: 1, Trusts: time.Second, Budgets: budgetsOf(t, d, 2, 1, c, nil)})
	for _, step := range []func(context.Context) error{one.Beat, two.Beat, one.Leave, two.Beat} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if two.Peers() != 0 {
		t.Errorf("one that left still counts: %d", two.Peers())
	}
}

func TestTwoProcessesUnderOneNumberAreNotLeftRunning(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	c := newClock(noon)
	var mu sync.Mutex
	replaced := map[string]int{}
	process := func(name string, boot uint32) *Gateways {
		return NewGateways(d, GatewayOptions{Node: 7, Boot: boot, Trusts: time.Minute, Budgets: budgetsOf(t, d, 7, boot, c, nil), Replaced: func(err error) {
			if e := problem.From(err); e.Code != "node-twice" || e.Mend == "" {
				t.Errorf("%s was told %v", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			replaced[name]++
		}})
	}
	first, same, later := process("first", 3), process("same", 3), process("later", 4)
	for _, g := range []*Gateways{first, first, same, first} {
		if err := g.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if replaced["first"] != 0 || replaced["same"] != 1 {
		t.Errorf("two of the same start: %v", replaced)
	}
	for _, g := range []*Gateways{later, first, later} { // a restart, or a copy of the directory that was started after it
		if err := g.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if replaced["first"] != 1 || replaced["later"] != 0 {
		t.Errorf("a later start: %v", replaced)
	}
	silent(t, d, 7, 2*takeoverWait) // restored from a backup, with a lower count of starts
	if err := first.Beat(t.Context()); err != nil || replaced["first"] != 1 {
		t.Errorf("a number that nobody has used for long is not free: %v %v", replaced, err)
	}
}

func TestLimitsPerMinuteAreCommonToAllGateways(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	c := newClock(noon)
	org := uuid.New()
	var nodes []*Budgets
	var accounts []*Account
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i := range 3 {
		b := budgetsOf(t, d, uint32(i+1), 1, c, nil)
		nodes, accounts = append(nodes, b), append(accounts, b.Account(org, "k", Limits{RequestsPerMinute: 100, TokensPerMinute: 1000}))
		running.Go(func() { b.Share(ctx, func() int { return 2 }) })
	}
	// What was used before the others listened is told to nobody: go on until
	// they hear.
	probe := nodes[0].Account(org, "probe", Limits{RequestsPerMinute: 1_000_000})
	for _, b := range nodes[1:] {
		heard := b.Account(org, "probe", Limits{RequestsPerMinute: 1_000_000})
		waitFor(t, "the gateways to hear one another", func() bool {
			if _, err := probe.Admit(c.Now(), 0, 0); err != nil {
				t.Fatal(err)
			}
			return heard.requests.full.Load() > 0
		})
	}
	for range 60 {
		r, err := accounts[0].Admit(c.Now(), 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		r.Settle(0, 5) // half of the tokens were not used
	}
	for i, a := range accounts[1:] {
		steady := nodes[i+1].steady(c.Now())
		waitFor(t, "it to be heard", func() bool {
			return a.requests.full.Load() == steady+span(60, 100) && a.tokens.full.Load() == steady+span(300, 1000)
		})
	}
	passed := 0
	for range 100 {
		if _, err := accounts[1].Admit(c.Now(), 0, 1); err == nil {
			passed++
		}
	}
	if passed != 40 {
		t.Errorf("after 60 of 100 on one gateway, another let %d through", passed)
	}
	waitFor(t, "the third to be full too", func() bool {
		_, err := accounts[2].Admit(c.Now(), 0, 0)
		return err != nil
	})
	c.advance(time.Minute + time.Second)
	waitFor(t, "the next minute", func() bool { _, err := accounts[2].Admit(c.Now(), 0, 0); return err == nil })
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waiting for " + what)
		}
	}
}

// A gateway that another authority signs for is found by both, for as long as
// it answers; an operator's own certificate is not compared.
func TestGatewaysThatAreKnownByDifferentAuthoritiesFindOneAnother(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	told := map[uint32][][]uint32{}
	gateway := func(node uint32, authority string) *Gateways {
		c := newClock(noon)
		return NewGateways(d, GatewayOptions{Node: node, Boot: 1, Trusts: time.Minute, Budgets: budgetsOf(t, d, node, 1, c, nil), Authority: authority,
			Differs: func(nodes []uint32) { told[node] = append(told[node], nodes) }})
	}
	one, two, own, three := gateway(1, "a"), gateway(2, "b"), gateway(3, ""), gateway(4, "a")
	beat := func(all ...*Gateways) {
		for _, g := range all {
			if err := g.Beat(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	beat(one, two, own, three, one, two, own, three)
	if a, b, c, d := one.Differ(), two.Differ(), own.Differ(), three.Differ(); !slices.Equal(a, []uint32{2}) || !slices.Equal(b, []uint32{1, 4}) || len(c) > 0 || !slices.Equal(d, []uint32{2}) {
		t.Errorf("%v %v %v %v", a, b, c, d)
	}
	if err := two.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	beat(one, three, one)
	if got := told[1]; len(one.Differ()) > 0 || len(got) != 2 || !slices.Equal(got[0], []uint32{2}) || len(got[1]) > 0 {
		t.Errorf("node 1 was told %v and holds %v", got, one.Differ())
	}
}
