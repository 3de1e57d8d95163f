package ledger

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

func session(org uuid.UUID) principal.Principal { return member(org, principal.Viewer) }

// stored makes a database with the requests of two organisations: nine and
// four, two a minute until now.
func stored(t *testing.T) (*db.DB, *Store, []uuid.UUID, []RequestID) {
	t.Helper()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 2)
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	t.Cleanup(n.stop)
	var ids []RequestID
	now := time.Now()
	for i := range 13 {
		a := admission(orgs[[]int{0, 1, 0}[i%3]], i%2 == 0)
		a.At = now.Add(-time.Duration(i/2) * time.Minute) // pairs at the same instant
		a.Key, a.Model = []string{"ka", "kb"}[i%2], []string{"large", "small"}[i%2]
		id := n.admit(a)
		ids = append(ids, id)
		switch {
		case i == 0: // still running
		case i == 5:
			o := outcome(50)
			o.Result, o.Status = UpstreamError, 502
			n.finish(id, o)
		default:
			o := outcome(1000)
			o.Latency = time.Duration(i) * 100 * time.Millisecond
			n.finish(id, o)
		}
	}
	n.refuse(&Refusal{At: now, Organisation: orgs[0], Key: "ka", Endpoint: wire.Messages, Model: "large", Class: sovereignty.Restricted, Rule: "class-ceiling", Status: 403, Decision: [16]byte{7}})
	n.flush()
	return d, NewStore(d, guard(d)), orgs, ids
}

func TestRequestsComePageByPageNewestFirstEachOnce(t *testing.T) {
	t.Parallel()
	_, store, orgs, ids := stored(t)
	for name, c := range map[string]struct {
		by    principal.Principal
		f     RequestFilter
		count int
	}{
		"the operator sees all":              {operator, RequestFilter{Limit: 4}, 13},
		"one at a time":                      {operator, RequestFilter{Limit: 1}, 13},
		"of one organisation":                {operator, RequestFilter{Limit: 2, Organisation: orgs[1]}, 4},
		"an organisation sees its own":       {session(orgs[0]), RequestFilter{Limit: 3}, 9},
		"by key":                             {operator, RequestFilter{Limit: 3, Key: "ka"}, 7},
		"by model":                           {operator, RequestFilter{Limit: 3, Model: "small"}, 6},
		"by provider":                        {operator, RequestFilter{Provider: "openai"}, 6},
		"what runs":                          {operator, RequestFilter{State: StateInFlight}, 1},
		"what failed":                        {operator, RequestFilter{State: "upstream-error"}, 1},
		"of the last two and a half minutes": {operator, RequestFilter{From: time.Now().Add(-150 * time.Second), Limit: 2}, 6},
		"before that":                        {operator, RequestFilter{To: time.Now().Add(-150 * time.Second), Limit: 2}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[RequestID]bool{}
			var last RequestRow
			for pages := 0; ; pages++ {
				rows, next, err := store.Requests(t.Context(), c.by, c.f)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rows {
					if seen[r.ID] || !slices.Contains(ids, r.ID) {
						t.Fatalf("%v again", r.ID)
					}
					if last.ID != (RequestID{}) && (r.At.After(last.At) || r.At.Equal(last.At) && r.ID.Seq > last.ID.Seq) {
						t.Fatalf("%v at %v comes after %v at %v", r.ID, r.At, last.ID, last.At)
					}
					if !c.by.Platform() && r.Organisation != c.by.Organisation {
						t.Fatalf("a row of another organisation: %+v", r)
					}
					seen[r.ID], last = true, r
				}
				if c.f.After = next; next == "" {
					break
				}
				if len(rows) == 0 || pages > 20 {
					t.Fatal("it does not end")
				}
			}
			if len(seen) != c.count {
				t.Errorf("%d requests, want %d", len(seen), c.count)
			}
		})
	}
	for _, after := range []string{"x", "1.2", "1.0.req_", "zzzzzzzzzzzzz.0." + ids[0].String(), "1.99999." + ids[0].String()} {
		if _, _, err := store.Requests(t.Context(), operator, RequestFilter{After: after}); kindOf(err) != problem.Invalid {
			t.Errorf("cursor %q: %v", after, err)
		}
	}
}

func TestNobodySeesAllOrganisationsButThePlatform(t *testing.T) {
	t.Parallel()
	_, store, orgs, ids := stored(t)
	for _, p := range []principal.Principal{{}, {Kind: principal.Key, ID: "k"}, {Kind: principal.Key, ID: "k", Organisation: orgs[0]},
		{Kind: principal.Session, ID: "s", Organisation: orgs[0]}, member(uuid.Nil, principal.PlatformAdministrator), member(orgs[0])} {
		if _, _, err := store.Requests(t.Context(), p, RequestFilter{}); kindOf(err) != problem.Denied {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if _, _, err := store.Requests(t.Context(), session(orgs[0]), RequestFilter{Organisation: orgs[1]}); kindOf(err) != problem.Denied {
		t.Errorf("another organisation's: %v", err)
	}
	granted := member(orgs[0], principal.PlatformOperator)
	granted.Grant = uuid.New()
	if rows, _, err := store.Requests(t.Context(), granted, RequestFilter{}); err != nil || len(rows) != 9 {
		t.Errorf("staff with a grant: %d, %v", len(rows), err)
	}
	found := 0
	for _, id := range ids {
		if _, _, err := store.Request(t.Context(), session(orgs[1]), id); err == nil {
			found++
		} else if kindOf(err) != problem.NotFound {
			t.Error(err)
		}
	}
	if found != 4 {
		t.Errorf("an organisation can open %d requests, and has 4", found)
	}
}

func TestUsageSumsByEveryGrouping(t *testing.T) {
	t.Parallel()
	_, store, orgs, _ := stored(t)
	// Twelve ended: eleven at 1000 and one at 50; one was refused.
	for grouping, groups := range map[Grouping][]string{
		ByModel: {"large", "small"}, ByKey: {"ka", "kb"}, ByProvider: {"", "ollama", "openai"}, ByJurisdiction: {"", "DE", "US"},
		ByOrganisation: {orgs[0].String(), orgs[1].String()}, ByDay: nil, ByHour: nil,
	} {
		rows, err := store.Usage(t.Context(), operator, UsageFilter{GroupBy: grouping})
		if err != nil {
			t.Fatal(err)
		}
		var sum UsageRow
		var names []string
		for _, r := range rows {
			names = append(names, r.Group)
			sum.Requests += r.Requests
			sum.CostNano += r.CostNano
			sum.Errors += r.Errors
			sum.Refusals += r.Refusals
			sum.InputTokens += r.InputTokens
		}
		if sum.Requests != 12 || sum.CostNano != 11_050 || sum.Errors != 1 || sum.Refusals != 1 || sum.InputTokens != 1200 {
			t.Errorf("by %s: %+v", grouping, sum)
		}
		if groups != nil && !slices.Equal(names, groups) {
			t.Errorf("by %s: groups %q, want %q", grouping, names, groups)
		}
	}
	own, err := store.Usage(t.Context(), session(orgs[1]), UsageFilter{GroupBy: ByOrganisation})
	if err != nil || len(own) != 1 || own[0].Group != orgs[1].String() || own[0].Requests != 4 {
		t.Errorf("%+v, %v", own, err)
	}
	if _, err := store.Usage(t.Context(), operator, UsageFilter{GroupBy: "model; DROP TABLE requests"}); kindOf(err) != problem.Invalid {
		t.Error(err)
	}
}

func TestRefusalsJoinTheirGroupsCurrency(t *testing.T) {
	got := foldRefusals([]UsageRow{
		{Group: "a", Currency: "USD", Requests: 1}, {Group: "a", Currency: "EUR", Requests: 1}, {Group: "a", Refusals: 3},
		{Group: "b", Refusals: 2}, {Group: "c", Currency: "EUR", Requests: 5},
	})
	want := []UsageRow{{Group: "a", Currency: "USD", Requests: 1, Refusals: 3}, {Group: "a", Currency: "EUR", Requests: 1}, {Group: "b", Refusals: 2}, {Group: "c", Currency: "EUR", Requests: 5}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestTheOverviewShowsTheLastHour(t *testing.T) {
	t.Parallel()
	_, store, orgs, _ := stored(t)
	o, err := store.Overview(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	var sum Minute
	for i, m := range o.Minutes {
		sum.Requests += m.Requests
		sum.Errors += m.Errors
		sum.Refusals += m.Refusals
		if i > 0 && m.At.Sub(o.Minutes[i-1].At) != time.Minute {
			t.Errorf("minute %d is at %v", i, m.At)
		}
	}
	if len(o.Minutes) != 60 || sum.Requests != 12 || o.Requests != 12 || sum.Errors != 1 || sum.Refusals != 1 || o.Transfers != 6 {
		t.Errorf("%+v", o)
	}
	if o.P50 < 500*time.Millisecond || o.P50 > 800*time.Millisecond || o.P95 < 1000*time.Millisecond {
		t.Errorf("p50 %v, p95 %v", o.P50, o.P95)
	}
	own, err := store.Overview(t.Context(), session(orgs[1]))
	if err != nil || own.Requests != 4 || own.Rejected != 0 {
		t.Errorf("%+v, %v", own, err)
	}
	if _, err := store.Overview(t.Context(), principal.Principal{}); kindOf(err) != problem.Denied {
		t.Error(err)
	}
}

func TestTheRegisterHasEveryTransferWithItsSafeguard(t *testing.T) {
	t.Parallel()
	_, store, orgs, _ := stored(t)
	count := func(by principal.Principal, f TransferFilter) (n int) {
		for {
			rows, next, err := store.Transfers(t.Context(), by, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if r.Safeguard != "idta ref-1" || r.Destination != "US" || r.Class != "internal" || !r.LeavesEEA || r.N != 1 || r.Provider != "openai" {
					t.Errorf("%+v", r)
				}
			}
			n += len(rows)
			if f.After = next; next == "" {
				return n
			}
		}
	}
	if n := count(operator, TransferFilter{Limit: 2}); n != 6 {
		t.Errorf("%d transfers, want 6", n)
	}
	if n := count(operator, TransferFilter{Destination: "FR"}) + count(operator, TransferFilter{Provider: "mistral"}); n != 0 {
		t.Errorf("%d to where nothing went", n)
	}
	if a, b := count(session(orgs[0]), TransferFilter{}), count(session(orgs[1]), TransferFilter{Limit: 1}); a+b != 6 || a == 0 || b == 0 {
		t.Errorf("%d and %d", a, b)
	}
	refusals, next, err := store.Refusals(t.Context(), session(orgs[0]), RefusalFilter{Rule: "class-ceiling"})
	if err != nil || next != "" || len(refusals) != 1 || refusals[0].Class != "restricted" || refusals[0].Endpoint != "messages" || refusals[0].Status != 403 || refusals[0].Decision[0] != 7 {
		t.Errorf("%+v, %v", refusals, err)
	}
	if refusals, _, err := store.Refusals(t.Context(), session(orgs[1]), RefusalFilter{}); err != nil || len(refusals) != 0 {
		t.Errorf("%+v, %v", refusals, err)
	}
}

func TestARequestShowsTheDecisionThatAllowedIt(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	orgs := makeOrganisations(t, d, 2)
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	defer n.stop()
	provider := &sovereignty.Provider{Name: "ollama", Own: true, Controller: "DE", Processing: []sovereignty.Jurisdiction{"DE"}}
	decision := sovereignty.Decide(sovereignty.DefaultPolicy(), sovereignty.Request{Organisation: orgs[0].String(), Class: sovereignty.Internal, At: time.Now()},
		[]sovereignty.Candidate{{Provider: provider, Model: "llama3"}})
	written := 0
	for range 3 {
		if err := n.rec.Trace(orgs[0], decision.Hash(), func() []byte { written++; return decision.JSON() }); err != nil {
			t.Fatal(err)
		}
	}
	if written != 1 {
		t.Errorf("the trace was written %d times", written)
	}
	n.expect.records++
	a := admission(orgs[0], true)
	a.Decision = decision.Hash()
	id := n.admit(a)
	n.flush()
	n.reboot()
	_ = n.rec.Trace(orgs[0], decision.Hash(), decision.JSON) // another boot writes it again
	n.expect.records++
	n.admit(a)
	n.flush()
	store := NewStore(d, guard(d))
	_, got, err := store.Request(t.Context(), session(orgs[0]), id)
	if err != nil || got == nil || got.Hash() != decision.Hash() || got.Text() != decision.Text() {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := store.Decision(t.Context(), operator, orgs[0], decision.Hash()); err != nil || got.Hash() != decision.Hash() {
		t.Errorf("%+v, %v", got, err)
	}
	for _, p := range []principal.Principal{session(orgs[1]), operator} {
		if _, err := store.Decision(t.Context(), p, orgs[1], decision.Hash()); kindOf(err) != problem.NotFound {
			t.Errorf("another organisation has the decision: %v", err)
		}
	}
	if row, _, err := store.Request(t.Context(), operator, id); err != nil || row.State != StateUnknown {
		t.Errorf("a request of an earlier boot: %s, %v", row.State, err)
	}
}

func TestViewsShowMoneyInMinorUnits(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	org := makeOrganisations(t, d, 1)[0]
	n := newNode(t, d, t.TempDir(), 1, newExpectation())
	defer n.stop()
	a := admission(org, true)
	a.ReservedNano = 20_000_000
	n.finish(n.admit(a), outcome(12_345_678)) // 1.2345678 cents
	n.flush()
	err := d.Read(t.Context(), func(tx pgx.Tx) error {
		var reserved, cost, hour string
		err := tx.QueryRow(t.Context(), `SELECT trim_scale(reserved_minor)::text, trim_scale(cost_minor)::text, (SELECT trim_scale(cost_minor)::text FROM usage_by_hour) FROM request_log`).Scan(&reserved, &cost, &hour)
		if reserved != "2" || cost != "1.2345678" || hour != cost {
			t.Errorf("reserved %s, cost %s, by hour %s", reserved, cost, hour)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{micros: 1_800_000_000_000_000, id: RequestID{1, 2, 3}, n: 2}.String())
	f.Add("")
	f.Add(strings.Repeat("z", 20) + ".1." + RequestID{}.String())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		if err != nil {
			if kindOf(err) != problem.Invalid {
				t.Fatal(err)
			}
			return
		}
		if again, err := parseCursor(c.String()); err != nil || again != c {
			t.Fatalf("%q reads as %+v, then as %+v (%v)", text, c, again, err)
		}
	})
}
