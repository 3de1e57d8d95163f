package ledger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// clock is a time that tests move.
type clock struct{ nano atomic.Int64 }

func newClock(at time.Time) *clock       { c := new(clock); c.nano.Store(at.UnixNano()); return c }
func (c *clock) Now() time.Time          { return time.Unix(0, c.nano.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.nano.Add(int64(d)) }

func budgetsOf(t tb, d *db.DB, node, boot uint32, c *clock, alarm func(Alarm)) *Budgets {
	t.Helper()
	b := NewBudgets(d, BudgetOptions{Node: node, Boot: boot, Now: c.Now, Alarm: alarm})
	if err := b.Refresh(context.Background()); err != nil {
		t.Fatalf("refreshing budgets: %v", err)
	}
	return b
}

func leaseNow(t tb, b *Budgets) {
	t.Helper()
	if err := b.Lease(context.Background()); err != nil {
		t.Fatalf("leasing: %v", err)
	}
}

// committed is what nodes hold or have spent of a budget, over all periods.
func committed(t tb, d *db.DB, id uuid.UUID) (granted, spent int64) {
	t.Helper()
	err := d.Read(context.Background(), func(tx pgx.Tx) error {
		return tx.QueryRow(context.Background(), `SELECT COALESCE(sum(granted_nano), 0)::bigint, COALESCE(sum(spent_nano), 0)::bigint FROM budget_leases WHERE budget_id = $1`, id).Scan(&granted, &spent)
	})
	if err != nil {
		t.Fatalf("reading leases: %v", err)
	}
	return granted, spent
}

func TestNodesTogetherNeverSpendMoreThanTheBudgetAndNearlyAllOfIt(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.Int64Range(100_000, 1e9).Draw(rt, "limit")
		def := setBudget(t, d, Budget{Organisation: org, Period: Total, LimitNano: limit, Currency: "EUR"})
		defer removeBudget(t, d, def)
		nodes := []*Budgets{budgetsOf(rt, d, 1, 1, c, nil), budgetsOf(rt, d, 2, 1, c, nil), budgetsOf(rt, d, 3, 1, c, nil)}
		worst := max(limit/rapid.Int64Range(20, 2000).Draw(rt, "requests"), 1)
		var spent atomic.Int64
		var all sync.WaitGroup
		for _, b := range nodes {
			a := b.Account(org, "k", Limits{})
			all.Go(func() {
				for refused := 0; refused < 20; {
					r, err := a.Admit(c.Now(), worst, 0)
					if err != nil {
						refused++
						leaseNow(rt, b)
						continue
					}
					refused = 0
					spent.Add(worst * 3 / 4)
					r.Settle(worst*3/4, 0)
				}
			})
		}
		all.Wait()
		granted, _ := committed(rt, d, def.ID)
		if spent.Load() > limit || granted > limit {
			rt.Fatalf("spent %d and leased %d of %d", spent.Load(), granted, limit)
		}
		if left := limit - spent.Load(); left > 3*worst+limit/100 {
			rt.Fatalf("%d of %d could not be spent by requests of at most %d", left, limit, worst)
		}
	})
}

func removeBudget(t testing.TB, d *db.DB, def Budget) {
	t.Helper()
	err := d.Org(context.Background(), def.Organisation, func(tx pgx.Tx) error {
		return NewStore(d, guard(d)).RemoveBudget(context.Background(), tx, operator, def.ID)
	})
	if err != nil {
		t.Fatalf("removing a budget: %v", err)
	}
}

func TestASpentLeaseRefusesWhetherOrNotTheDatabaseIsThere(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	d := dbtest.Open(t, server.Config())
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	def := setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 8000, Currency: "EUR"})
	var alarms atomic.Int64
	b := budgetsOf(t, d, 1, 1, c, func(Alarm) { alarms.Add(1) })
	a := b.Account(org, "k", Limits{})
	server.Stop()
	spent := int64(0)
	for {
		r, err := a.Admit(c.Now(), 100, 0)
		if err != nil {
			if kindOf(err) != problem.Exhausted || problem.From(err).Code != "budget-lease-spent" {
				t.Errorf("got %v", err)
			}
			break
		}
		r.Settle(100, 0)
		spent += 100
	}
	if spent != 1000 {
		t.Errorf("spent %d while the database was away; the lease is an eighth of 8000", spent)
	}
	if err := b.Lease(t.Context()); !errors.Is(err, db.ErrUnavailable) {
		t.Errorf("leasing without a database: %v", err)
	}
	server.Start()
	if err := d.WaitHealthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	leaseNow(t, b)
	a.mustAdmit(t, 100)
	if granted, _ := committed(t, d, def.ID); granted > 8000 {
		t.Errorf("leased %d of 8000", granted)
	}
}

func TestARestartWithoutADatabaseSpendsNothingAndRefusesNothingFree(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	d := dbtest.Open(t, server.Config())
	org := makeOrganisations(t, d, 2)[0]
	c := newClock(noon)
	setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 8000, Currency: "EUR"})
	before := budgetsOf(t, d, 1, 1, c, nil)
	server.Stop()
	b := NewBudgets(d, BudgetOptions{Node: 1, Boot: 2, Now: c.Now})
	b.Load(before.Definitions())
	if _, err := b.Account(org, "k", Limits{}).Admit(c.Now(), 1, 0); problem.From(err).Code != "budget-lease-spent" {
		t.Errorf("got %v", err)
	}
	b.Account(org, "k", Limits{}).mustAdmit(t, 0)
	b.Account(uuid.New(), "k", Limits{}).mustAdmit(t, 1000) // an organisation without a budget
}

func TestALeaseIsExtendedInTheBackgroundBeforeItIsEmpty(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 1e9, Currency: "EUR"})
	b := budgetsOf(t, d, 1, 1, c, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	defer func() { cancel(); <-done }()
	a := b.Account(org, "k", Limits{})
	// More than the first lease, in one request, and then all of it in small ones.
	r, err := a.AdmitWait(t.Context(), c.Now(), time.Minute, 4e8, 0)
	if err != nil {
		t.Fatalf("a request larger than the lease: %v", err)
	}
	r.Settle(4e8, 0)
	spent := int64(4e8)
	for {
		r, err := a.AdmitWait(t.Context(), c.Now(), time.Minute, 1e6, 0)
		if err != nil {
			if problem.From(err).Code != "budget-exhausted" {
				t.Errorf("refused with %d spent: %v", spent, err)
			}
			break
		}
		spent += 1e6
		r.Settle(1e6, 0)
	}
	if spent != 1e9 {
		t.Errorf("spent %d of 1e9", spent)
	}
}

func TestANewPeriodIsLeasedBeforeItBegins(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	c := newClock(midnight.Add(-30 * time.Second))
	def := setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 8000, Currency: "EUR"})
	b := budgetsOf(t, d, 1, 1, c, nil)
	a := b.Account(org, "k", Limits{})
	yesterday := a.mustAdmit(t, 900)
	c.advance(time.Minute)
	a.mustAdmit(t, 900).Settle(400, 0) // nobody asked the database since
	yesterday.Settle(700, 0)
	c.advance(time.Minute)
	leaseNow(t, b)
	rows, err := NewStore(d, guard(d)).Budgets(t.Context(), operator)
	if err != nil || len(rows) != 1 {
		t.Fatal(err)
	}
	perPeriod := map[string]int64{}
	err = d.Read(t.Context(), func(tx pgx.Tx) error {
		r, _ := tx.Query(t.Context(), `SELECT to_char(period_start AT TIME ZONE 'UTC', 'MM-DD'), spent_nano FROM budget_leases WHERE budget_id = $1`, def.ID)
		var day string
		var spent int64
		_, err := pgx.ForEachRow(r, []any{&day, &spent}, func() error { perPeriod[day] = spent; return nil })
		return err
	})
	if err != nil || perPeriod["11-22"] != 700 || perPeriod["11-23"] != 400 {
		t.Errorf("spent by day: %v (%v)", perPeriod, err)
	}
}

func TestTheAlarmIsRaisedOnceForABudgetAndPeriod(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	def := setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 1000, Currency: "EUR"})
	var mu sync.Mutex
	var alarms []Alarm
	alarm := func(a Alarm) { mu.Lock(); alarms = append(alarms, a); mu.Unlock() }
	spend := func(b *Budgets, n int64) {
		a := b.Account(org, "k", Limits{})
		for ; n > 0; n -= 10 {
			r, err := a.Admit(c.Now(), 10, 0)
			for errors.Is(err, errLeaseShort) {
				leaseNow(t, b)
				r, err = a.Admit(c.Now(), 10, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.Settle(10, 0)
		}
		c.advance(time.Minute)
		leaseNow(t, b)
	}
	one, two := budgetsOf(t, d, 1, 1, c, alarm), budgetsOf(t, d, 2, 1, c, alarm)
	spend(one, 400)
	spend(two, 390)
	if len(alarms) != 0 {
		t.Fatalf("an alarm at 79 %%: %+v", alarms)
	}
	spend(one, 20)
	spend(two, 50)
	spend(budgetsOf(t, d, 1, 2, c, alarm), 10) // a restart
	if len(alarms) != 1 || alarms[0].Budget.ID != def.ID || alarms[0].SpentNano != 810 {
		t.Errorf("alarms: %+v", alarms)
	}
	entries, err := audit.List(t.Context(), d, uuid.Nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.Act == "budget.alarm" && e.Target == def.ID.String() {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d alarms are audited", n)
	}
	c.advance(24 * time.Hour)
	spend(one, 800)
	if len(alarms) != 2 {
		t.Errorf("the next day's alarm: %+v", alarms)
	}
	if o, err := NewStore(d, guard(d)).Overview(t.Context(), operator); err != nil || len(o.Alarms) > 1 {
		t.Errorf("%+v, %v", o.Alarms, err)
	}
}

func TestAnAlarmIsRaisedWhileTheDatabaseIsAwayAndRecordedWhenItIsBack(t *testing.T) {
	t.Parallel()
	server := dbtest.NewServer(t)
	d := dbtest.Open(t, server.Config())
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 8000, Currency: "EUR", AlarmPercent: 10})
	alarms := 0
	b := budgetsOf(t, d, 1, 1, c, func(Alarm) { alarms++ })
	server.Stop()
	b.Account(org, "k", Limits{}).mustAdmit(t, 900).Settle(900, 0)
	_ = b.Lease(t.Context())
	_ = b.Lease(t.Context())
	if alarms != 1 {
		t.Fatalf("%d alarms without a database", alarms)
	}
	server.Start()
	if err := d.WaitHealthy(t.Context()); err != nil {
		t.Fatal(err)
	}
	leaseNow(t, b)
	leaseNow(t, b)
	if rows := countRows(t, d, "budget_alarms", org); alarms != 1 || rows != 1 {
		t.Errorf("%d alarms, %d recorded", alarms, rows)
	}
}

func TestWhatAnEarlierBootDidNotSpendGoesBackOnceItsJournalIsShipped(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(time.Now().UTC())
	def := setBudget(t, d, Budget{Organisation: org, Period: Total, LimitNano: 80_000, Currency: "EUR"})
	e := newExpectation()
	n := newNode(t, d, t.TempDir(), 1, e)
	defer func() { n.stop() }()
	b := budgetsOf(t, d, 1, n.boot, c, nil)
	a := b.Account(org, "k", Limits{})
	reserve := func() RequestID { // 5,000, as the admission says
		a.mustAdmit(t, 5000)
		return n.admit(admission(org, false))
	}
	n.finish(reserve(), outcome(1500))
	lost := reserve()
	if granted, _ := committed(t, d, def.ID); granted != 10_000 {
		t.Fatalf("leased %d", granted)
	}
	n.reboot() // nothing was settled, reported or shipped

	b = budgetsOf(t, d, 1, n.boot, c, nil)
	if granted, _ := committed(t, d, def.ID); granted != 10_000+8_750 {
		t.Errorf("both boots lease %d", granted)
	}
	// The new boot serves already: what it spends is its own lease's.
	b.Account(org, "k", Limits{}).mustAdmit(t, 5000).Settle(300, 0)
	n.finish(n.admit(admission(org, true)), outcome(300))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	n.shipper.o.GatherIdle = time.Millisecond
	go func() { defer close(done); _ = n.shipper.Run(ctx) }()
	if err := Recover(t.Context(), n.journal, n.shipper, b); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	e.swept(n.number, n.boot)
	e.verify(t, d)
	if r := e.requests[lost]; r.state != StateUnknown || r.cost != 5000 {
		t.Errorf("the lost request is %+v", r)
	}
	// 1,500 were spent, 5,000 are held, 8,750 leased.
	if granted, spent := committed(t, d, def.ID); granted != 1500+5000+8_750 || spent != 6500 {
		t.Errorf("leased %d, spent %d", granted, spent)
	}
	c.advance(time.Minute)
	leaseNow(t, b)
	if _, spent := committed(t, d, def.ID); spent != 6800 {
		t.Errorf("spent %d in both boots", spent)
	}
	if again, err := b.Reconcile(t.Context()); err != nil || again != 0 {
		t.Errorf("closed again: %d, %v", again, err)
	}
}

func TestANewBudgetCountsWhatItsPeriodHasCost(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 2)
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	defer n.stop()
	for _, org := range orgs {
		n.finish(n.admit(admission(org, true)), outcome(600))
		old := admission(org, true)
		old.At = time.Now().AddDate(0, 0, -40)
		n.finish(n.admit(old), outcome(100))
	}
	n.flush()
	setBudget(t, d, Budget{Organisation: orgs[0], Period: Month, LimitNano: 1000, Currency: "EUR"})
	setBudget(t, d, Budget{Organisation: orgs[0], Period: Total, LimitNano: 1000, Currency: "EUR"})
	rows, err := NewStore(d, guard(d)).Budgets(t.Context(), operator)
	if err != nil || len(rows) != 2 || rows[0].SpentNano != 600 || rows[1].SpentNano != 700 {
		t.Errorf("%+v, %v", rows, err)
	}
	a := budgetsOf(t, d, 2, 1, newClock(time.Now()), nil).Account(orgs[0], "k", Limits{})
	if _, err := a.Admit(time.Now(), 400, 0); kindOf(err) != problem.Exhausted {
		t.Errorf("300 of 1000 are left, and 400 passed: %v", err)
	}
}

func TestALoweredLimitTakesBackWhatIsNotReserved(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	def := setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 80_000, Currency: "EUR"})
	b := budgetsOf(t, d, 1, 1, c, nil)
	a := b.Account(org, "k", Limits{})
	r := a.mustAdmit(t, 3000)
	def.LimitNano = 4000
	if again := setBudget(t, d, def); again.ID != def.ID {
		t.Fatal("changing a budget made another one")
	}
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if granted, _ := committed(t, d, def.ID); granted != 4000 {
		t.Errorf("leased %d, and the limit is 4000", granted)
	}
	r.Settle(1000, 0) // 3000 come back
	if _, err := a.Admit(c.Now(), 3001, 0); kindOf(err) != problem.Exhausted {
		t.Errorf("got %v", err)
	}
	a.mustAdmit(t, 3000)
	removeBudget(t, d, def)
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.mustAdmit(t, 1e12)
}

func TestClosingGivesBackTheRestOfALease(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	c := newClock(noon)
	def := setBudget(t, d, Budget{Organisation: org, Period: Day, LimitNano: 80_000, Currency: "EUR"})
	b := budgetsOf(t, d, 1, 1, c, nil)
	a := b.Account(org, "k", Limits{})
	a.mustAdmit(t, 3000).Settle(1200, 0)
	a.mustAdmit(t, 500) // still running
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if granted, spent := committed(t, d, def.ID); granted != 1700 || spent != 1200 {
		t.Errorf("leased %d, spent %d", granted, spent)
	}
	if _, err := a.Admit(c.Now(), 1, 0); err == nil {
		t.Error("a closed budget admits")
	}
}

func TestOnlyOperatorsChangeBudgetsAndOnlySensibleOnes(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 2)
	store := NewStore(d, guard(d))
	good := Budget{Organisation: orgs[0], Period: Day, LimitNano: 1e9, Currency: "EUR"}
	set := func(p principal.Principal, def Budget) error {
		return d.Org(t.Context(), orgs[0], func(tx pgx.Tx) error { _, err := store.SetBudget(t.Context(), tx, p, def); return err })
	}
	long := member(orgs[0], principal.Operator)
	long.SecondFactor = long.SecondFactor.Add(-time.Hour)
	for name, c := range map[string]struct {
		by     principal.Principal
		change func(*Budget)
		code   string
	}{
		"an organisation's session":  {principal.Principal{Kind: principal.Session, ID: "s", Organisation: orgs[0]}, nil, "request-invalid"},
		"a key":                      {principal.Principal{Kind: principal.Key, ID: "k", Organisation: orgs[0]}, nil, "request-invalid"},
		"a key without organisation": {principal.Principal{Kind: principal.Key, ID: "k"}, nil, "request-invalid"},
		"nobody":                     {principal.Principal{}, nil, "request-invalid"},
		"a viewer":                   {member(orgs[0], principal.Viewer), nil, "access-denied"},
		"another's administrator":    {member(orgs[1], principal.Administrator), nil, "access-denied"},
		"long after the last factor": {long, nil, "step-up-required"},
		"no such period":             {operator, func(b *Budget) { b.Period = "week" }, "budget-period"},
		"a negative limit":           {operator, func(b *Budget) { b.LimitNano = -1 }, "budget-limit"},
		"a limit beyond all money":   {operator, func(b *Budget) { b.LimitNano = maxLimit + 1 }, "budget-limit"},
		"no currency":                {operator, func(b *Budget) { b.Currency = "" }, "budget-currency"},
		"a currency that is none":    {operator, func(b *Budget) { b.Currency = "eur" }, "budget-currency"},
		"an alarm above all of it":   {operator, func(b *Budget) { b.AlarmPercent = 101 }, "budget-alarm"},
		"no organisation":            {operator, func(b *Budget) { b.Organisation = uuid.Nil }, "budget-organisation"},
		"a key that does not exist":  {operator, func(b *Budget) { b.Key = "nokey" }, "key-unknown"},
	} {
		def := good
		if c.change != nil {
			c.change(&def)
		}
		if err := set(c.by, def); problem.From(err).Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := countRows(t, d, "budgets", orgs[0]); n != 0 {
		t.Errorf("%d budgets were made", n)
	}
	for _, p := range []principal.Principal{operator, member(orgs[0], principal.Operator)} {
		if err := set(p, good); err != nil {
			t.Fatal(err)
		}
	}
	if err := set(operator, Budget{Organisation: orgs[1], Period: Day, LimitNano: 1, Currency: "EUR"}); state(err) != "42501" {
		t.Errorf("a transaction for one organisation set another's budget: %v", err)
	}
	acts := map[string]int{}
	entries, err := audit.List(t.Context(), d, uuid.Nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		acts[e.Act+" "+e.Outcome]++
	}
	if acts["budget.set done"] != 2 || acts["budget.set denied"] != 7 {
		t.Errorf("audited: %v", acts)
	}
	err = d.Org(t.Context(), orgs[0], func(tx pgx.Tx) error { return store.RemoveBudget(t.Context(), tx, operator, uuid.New()) })
	if problem.From(err).Kind != problem.NotFound {
		t.Errorf("removing what is not there: %v", err)
	}
}
